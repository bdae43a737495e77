import cv2
import numpy as np
import pytest

from dfpipe.preprocess.crops import crop_face, encode_jpeg, padded, resize, squared
from dfpipe.types import FaceBox

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 255, (90, 120, 3), dtype=np.uint8)


def test_a_crop_inside_is_a_plain_cut() -> None:
    crop = crop_face(PICTURE, FaceBox(40, 30, 60, 50, 1), 1.5, 30)
    np.testing.assert_array_equal(crop, PICTURE[25:55, 35:65])


def test_the_square_is_centred_and_as_wide_as_said() -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[80:120, 90:110] = 255  # 20 x 40 face
    crop = crop_face(picture, FaceBox(90, 80, 110, 120, 1), 2.0, 80)
    rows, columns = np.nonzero(crop[:, :, 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 59, 30, 49)


@pytest.mark.parametrize("corner", [(0, 0), (100, 0), (0, 70), (100, 70), (-15, -15), (110, 85)])
def test_past_the_border_the_edge_is_repeated(corner: tuple[float, float]) -> None:
    x, y = corner
    crop = crop_face(PICTURE, FaceBox(x, y, x + 20, y + 20, 1), 2.0, 40)
    wide = cv2.copyMakeBorder(PICTURE, 100, 100, 100, 100, cv2.BORDER_REPLICATE)
    left, top = round(x + 10 - 20) + 100, round(y + 10 - 20) + 100
    np.testing.assert_array_equal(crop, wide[top : top + 40, left : left + 40])


@pytest.mark.parametrize(
    "box",
    [
        FaceBox(-500, -500, -400, -400, 1),
        FaceBox(900, 900, 1000, 1000, 1),
        FaceBox(5, 5, 5, 5, 1),
        FaceBox(0, 0, 9e3, 9e3, 1),
    ],
)
def test_any_box_gives_a_picture_of_the_right_size(box: FaceBox) -> None:
    crop = crop_face(PICTURE, box, 1.3, 64)
    assert crop.shape == (64, 64, 3)
    assert crop.dtype == np.uint8


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize(stripes, 64).astype(int) - 128).max() <= 1


def test_squared_and_padded_repeat_edges() -> None:
    assert squared(PICTURE).shape == (120, 120, 3)
    np.testing.assert_array_equal(squared(PICTURE)[0], PICTURE[0])
    assert padded(PICTURE, 5).shape == (100, 130, 3)


def test_jpeg_keeps_colour_edges() -> None:
    """4:4:4: one red column on blue stays red; with 4:2:0 it would turn purple."""
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 2] = 255
    picture[:, 31] = (255, 0, 0)
    back = cv2.cvtColor(cv2.imdecode(np.frombuffer(encode_jpeg(picture, 95), np.uint8), 1), cv2.COLOR_BGR2RGB)
    assert back[32, 31, 0] > 220
    assert back[32, 31, 2] < 40
