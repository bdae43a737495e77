import cv2
import numpy as np
import pytest

from dfpipe.preprocess.crops import upright_landmarks
from dfpipe.train import degrade
from dfpipe.train.degrade import STEPS, colour_matrix, cutout, degraded, jpeg_at, video_at
from dfpipe.train.transforms import RECODING

LUMA = np.array([0.299, 0.587, 0.114])
PHOTO = cv2.resize(np.random.default_rng(0).integers(30, 220, (24, 24, 3), np.uint8), (96, 96))
FACE = upright_landmarks((96, 96), 1.3)


def psnr(image: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((image.astype(float) - other) ** 2).mean()))


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("shape", [(96, 96), (20, 20), (1, 33), (33, 1), (1, 1), (7, 15)])
def test_steps_keep_shape_type_and_their_input(name: str, shape: tuple[int, int]) -> None:
    image = cv2.resize(PHOTO, shape[::-1]).reshape(*shape, 3)
    before = image.copy()
    step, probability = STEPS[name]
    for seed in range(3):
        result = step(image, upright_landmarks(shape, 1.3), np.random.default_rng(seed))
        assert result.shape == image.shape
        assert result.dtype == np.uint8
        again = step(image, upright_landmarks(shape, 1.3), np.random.default_rng(seed))
        np.testing.assert_array_equal(result, again)
    np.testing.assert_array_equal(image, before)
    assert 0 < probability <= 1


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("image", [PHOTO, PHOTO // 6, 255 - PHOTO // 6], ids=["usual", "dark", "bright"])
def test_no_step_blanks_a_picture(name: str, image: np.ndarray) -> None:
    """Luma keeps a good part of its spread, most of which lies in what a shrunk picture still shows."""
    step, _ = STEPS[name]
    spread = (image @ LUMA).std()
    changed = 0
    for seed in range(20):
        result = step(image, FACE, np.random.default_rng(seed))
        assert (result @ LUMA).std() > 0.3 * spread
        changed += not np.array_equal(result, image)
    assert changed


def test_low_quality_loses_more() -> None:
    assert psnr(jpeg_at(PHOTO, 30), PHOTO) + 3 < psnr(jpeg_at(PHOTO, 95), PHOTO)
    assert psnr(video_at(PHOTO, 40, (1, 0), 1), PHOTO) + 3 < psnr(video_at(PHOTO, 23, (1, 0), 1), PHOTO)


@pytest.mark.parametrize("keep", range(degrade.VIDEO_FRAMES))
@pytest.mark.parametrize("pan", [(0, 0), (2, -1)])
def test_a_frame_of_the_clip_shows_the_picture_in_its_place(keep: int, pan: tuple[int, int]) -> None:
    smooth = cv2.GaussianBlur(PHOTO, (0, 0), 2)
    frame, inner = video_at(smooth, 23, pan, keep) @ LUMA, (smooth @ LUMA)[8:-8, 8:-8]
    places = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    errors = {(x, y): np.abs(np.roll(frame, (y, x), (0, 1))[8:-8, 8:-8] - inner).mean() for x, y in places}
    assert min(errors, key=errors.__getitem__) == (0, 0)
    assert errors[0, 0] < 3


def test_colours_turn_and_luma_stays() -> None:
    pixels = np.random.default_rng(1).uniform(0, 255, (50, 3))
    turned = pixels @ colour_matrix(1.3, 15).T
    np.testing.assert_allclose(turned @ LUMA, pixels @ LUMA, atol=0.6)  # the published YIQ has three digits
    np.testing.assert_allclose(pixels @ colour_matrix(1, 0).T, pixels, atol=1e-9)
    greys = np.repeat(pixels[:, :1], 3, axis=1)
    np.testing.assert_allclose(greys @ colour_matrix(1.4, 10).T, greys, atol=0.5)
    grey = pixels @ colour_matrix(0, 0).T
    np.testing.assert_allclose(grey[:, 0], grey[:, 2], atol=0.5)


def test_cutout_hides_one_region_of_the_face() -> None:
    hidden = set()
    for seed in range(30):
        changed = (cutout(PHOTO, FACE, np.random.default_rng(seed)) != PHOTO).any(2)
        assert 0.02 < changed.mean() < degrade.CUT_SHARE
        hidden.add(tuple(bool(changed[round(y), round(x)]) for x, y in FACE))
    eyes, nose, mouth = (
        (True, True, False, False, False),
        (False, False, True, False, False),
        (*[False] * 3, True, True),
    )
    assert hidden == {eyes, nose, mouth}


def test_cutout_spares_a_picture_that_it_would_hide() -> None:
    """A face four times as large as the picture."""
    cut = [
        (cutout(PHOTO, 4 * (FACE - 48) + 48, np.random.default_rng(seed)) != PHOTO).any(2).mean() for seed in range(30)
    ]
    assert max(cut) <= degrade.CUT_SHARE
    assert min(cut) == 0


def test_each_step_comes_as_often_as_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = dict.fromkeys(STEPS, 0)

    def counting(name: str) -> degrade.Step:
        def step(image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            counts[name] += 1
            return image

        return step

    monkeypatch.setattr(degrade, "STEPS", {name: (counting(name), p) for name, (_, p) in STEPS.items()})
    rng = np.random.default_rng(0)
    for _ in range(2000):
        degraded(PHOTO, FACE, rng)
    for name, (_, probability) in STEPS.items():
        assert counts[name] / 2000 == pytest.approx(probability, abs=0.05)


def test_random_states_elsewhere_are_left_alone() -> None:
    np.random.seed(3)
    cv2.setRNGSeed(3)
    expected = np.random.random(), cv2.randu(np.zeros((2, 2)), 0, 1).copy()
    np.random.seed(3)
    cv2.setRNGSeed(3)
    for step, _ in STEPS.values():
        step(PHOTO, FACE, np.random.default_rng(0))
    assert np.random.random() == expected[0]
    np.testing.assert_array_equal(cv2.randu(np.zeros((2, 2)), 0, 1), expected[1])


def test_only_the_steps_that_are_named_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    noted = {name: (lambda image, landmarks, rng, name=name: (taken.append(name), image)[1], 1.0) for name in STEPS}
    monkeypatch.setattr("dfpipe.train.degrade.STEPS", noted)
    degraded(PHOTO, FACE, np.random.default_rng(0), ("jpeg", "shrink"))
    assert taken == ["shrink", "jpeg"]  # in the order in which a picture meets them
    degraded(PHOTO, FACE, np.random.default_rng(0))
    assert taken[2:] == list(STEPS)


def test_what_recoding_names_exists() -> None:
    assert set(RECODING) <= set(STEPS)
