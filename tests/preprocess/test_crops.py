import cv2
import numpy as np
import pytest

from dfpipe.preprocess.crops import (
    LANDMARKS,
    align_face,
    crop_face,
    encode_jpeg,
    encode_png,
    landmarks_in_crop,
    padded,
    resize,
    similarity,
    squared,
    upright_landmarks,
)
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


def face_at(points: np.ndarray) -> FaceBox:
    return FaceBox(*points.min(0).tolist(), *points.max(0).tolist(), 1.0, tuple(map(tuple, points.tolist())))


@pytest.mark.parametrize("degrees", [0, 25, -40, 170])
@pytest.mark.parametrize("side", [60.0, 400.0])
def test_aligned_faces_are_upright_and_of_one_size(degrees: float, side: float) -> None:
    """A turned and scaled face of which one landmark is marked: it lands where it should."""
    turn = np.exp(1j * np.deg2rad(degrees))
    places = [complex(450, 430) + side * turn * complex(x, y) for x, y in LANDMARKS]
    face = face_at(np.array([(p.real, p.imag) for p in places]))
    for place, (x, y) in zip(places, LANDMARKS, strict=True):
        canvas = np.zeros((900, 900, 3), np.uint8)
        cv2.circle(canvas, (round(place.real), round(place.imag)), max(2, round(side / 40)), (255, 255, 255), -1)
        rows, columns = np.nonzero(align_face(canvas, face, 1.3, 260)[:, :, 0] > 127)
        assert (columns.mean(), rows.mean()) == pytest.approx((130 + 200 * x, 130 + 200 * y), abs=3)


def test_alignment_needs_landmarks() -> None:
    box = FaceBox(40, 30, 60, 50, 1)
    np.testing.assert_array_equal(align_face(PICTURE, box, 1.5, 30), crop_face(PICTURE, box, 1.5, 30))
    same = FaceBox(40, 30, 60, 50, 1, ((50.0, 40.0),) * 5)
    np.testing.assert_array_equal(align_face(PICTURE, same, 1.5, 30), crop_face(PICTURE, same, 1.5, 30))


def test_an_upright_face_is_cut_alike_with_and_without_alignment(portrait: np.ndarray) -> None:
    from dfpipe.preprocess.mtcnn import MTCNN

    face = MTCNN().detect([portrait])[0][0]
    plain, aligned = crop_face(portrait, face, 1.3, 128), align_face(portrait, face, 1.3, 128)
    (again,) = MTCNN().detect([aligned])[0]
    assert again.side == pytest.approx(128 / 1.3, rel=0.15)
    assert again.landmarks[0][1] == pytest.approx(again.landmarks[1][1], abs=2)  # the eyes are level
    assert plain.shape == aligned.shape


@pytest.mark.parametrize("size", [64, 256])
@pytest.mark.parametrize("corners", [(60, 50, 91, 93), (-20, 10, 40, 95), (100.4, 80.6, 140.1, 130.3)])
def test_points_follow_the_crop(corners: tuple[float, ...], size: int) -> None:
    """A dot in the picture lies in the crop where the mapping says."""
    box = FaceBox(*corners, 1.0)
    places = np.array([(x, y) for x in (10, 33, 70, 110) for y in (20, 66, 101)], float)
    mapped, compared = landmarks_in_crop(places, box, 1.3, size), 0
    for (x, y), place in zip(places, mapped, strict=True):
        canvas = np.zeros((120, 130, 3), np.uint8)
        canvas[int(y) - 2 : int(y) + 2, int(x) - 2 : int(x) + 2] = 255  # centred on the corner of four pixels
        weights = crop_face(canvas, box, 1.3, size)[:, :, 0].astype(float)
        if (place > 0.1 * size).all() and (place < 0.9 * size).all():
            rows, columns = np.indices(weights.shape) + 0.5  # (0, 0) is the outer corner of the first pixel
            centre = (columns * weights).sum() / weights.sum(), (rows * weights).sum() / weights.sum()
            assert place == pytest.approx(centre, abs=0.1)
            compared += 1
    assert compared


def test_an_aligned_face_has_the_landmarks_of_an_upright_one() -> None:
    np.testing.assert_allclose(upright_landmarks((130, 130), 1.3), 65 + 100 * np.array(LANDMARKS))
    np.testing.assert_allclose(upright_landmarks((100, 130), 1.3), [65, 50] + 100 * np.array(LANDMARKS))


def test_the_nearest_similarity() -> None:
    points = RNG.normal(size=(5, 2))
    angle, factor, shift = 0.7, 2.5, np.array([3.0, -4.0])
    turn = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity(points, points @ turn.T + shift)
    np.testing.assert_allclose(matrix, np.column_stack([turn, shift]), atol=1e-12)


def test_png_loses_nothing() -> None:
    back = cv2.imdecode(np.frombuffer(encode_png(PICTURE), np.uint8), 1)[:, :, ::-1]
    np.testing.assert_array_equal(back, PICTURE)
