import cv2
import numpy as np
import pytest

from dfpipe.preprocess.crops import LANDMARKS, upright_landmarks
from dfpipe.train import selfblend
from dfpipe.train.selfblend import OUTLINE, blend, mask, real_or_blended, self_blended
from dfpipe.types import Label

PHOTO = cv2.resize(np.random.default_rng(0).integers(30, 220, (32, 32, 3), np.uint8), (256, 256))
FACE = upright_landmarks((256, 256), 1.3)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def at(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.array([picture[round(y), round(x)] for x, y in points])


def test_the_outline_is_symmetric_and_holds_the_landmarks() -> None:
    assert 25 <= len(OUTLINE) == len(set(OUTLINE)) <= 30
    assert {(-x, y) for x, y in OUTLINE} == set(OUTLINE)
    hull = cv2.convexHull(np.array(OUTLINE, np.float32))
    assert len(hull) == len(OUTLINE)  # convex, so no point is lost
    for point in LANDMARKS:
        assert cv2.pointPolygonTest(hull, point, True) > 0.1


@pytest.mark.parametrize("scale", [1.0, 1.3, 2.0, 4.0])
@pytest.mark.parametrize("degrees", [0, 30, -75])
def test_the_mask_covers_the_landmarks_and_ends_inside_the_picture(scale: float, degrees: float) -> None:
    turn = cv2.getRotationMatrix2D((128, 128), degrees, 1)
    face = upright_landmarks((256, 256), scale) @ turn[:, :2].T + turn[:, 2]
    for seed in range(10):
        share = mask(face, (256, 256), rng(seed))
        assert share.shape == (256, 256)
        assert share.dtype == np.float32
        assert share.min() == 0
        assert share.max() == pytest.approx(1, abs=1e-6)
        assert at(share, face).min() > 0.5
        rows, columns = np.nonzero(share > 0.5)
        assert np.hypot(rows - face[:, 1].mean(), columns - face[:, 0].mean()).max() < 0.75 * 256 / scale
        assert 0.15 < (share > 0.5).mean() * scale**2 < 0.75  # of the square of the box's longer side


def test_masks_differ_and_follow_the_seed() -> None:
    masks = [mask(FACE, (256, 256), rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert np.abs(masks[0] - masks[2]).max() > 0.5


def test_outside_the_mask_the_target_stays_bit_by_bit() -> None:
    source, target = PHOTO[::-1].copy(), PHOTO
    share = mask(FACE, (256, 256), rng(0))
    blended = blend(source, target, share)
    np.testing.assert_array_equal(blended[share == 0], target[share == 0])
    np.testing.assert_array_equal(blended[share == 1], source[share == 1])
    mixed = share[..., None] * source + (1 - share[..., None]) * target
    np.testing.assert_allclose(blended, mixed, atol=0.51)


def test_a_blend_whose_ground_is_untouched_differs_inside_only() -> None:
    untouched = 0
    for seed in range(20):
        share = mask(FACE, PHOTO.shape[:2], rng(seed))  # the first thing that is drawn
        blended = self_blended(PHOTO, FACE, rng(seed))
        assert blended is not None
        assert blended.shape == PHOTO.shape
        assert blended.dtype == np.uint8
        if np.array_equal(blended[share == 0], PHOTO[share == 0]):
            untouched += 1
            assert (blended[share > 0.9] != PHOTO[share > 0.9]).any(1).mean() > 0.5
        np.testing.assert_array_equal(blended, self_blended(PHOTO, FACE, rng(seed)))
    assert 5 <= untouched <= 15  # source or target is altered, by a coin


def test_the_altered_copy_is_still_the_same_picture() -> None:
    for seed in range(20):
        source, target = selfblend._copies(PHOTO, rng(seed))
        assert np.array_equal(source, PHOTO) != np.array_equal(target, PHOTO)
        altered = target if np.array_equal(source, PHOTO) else source
        assert np.corrcoef(altered.ravel(), PHOTO.ravel())[0, 1] > 0.75
        assert altered.mean() == pytest.approx(PHOTO.mean(), rel=0.6)


@pytest.mark.parametrize("shape", [(20, 20), (1, 40), (40, 1), (1, 1), (64, 64)])
def test_any_picture_and_any_landmarks_raise_nothing(shape: tuple[int, int]) -> None:
    image = cv2.resize(PHOTO, shape[::-1]).reshape(*shape, 3)
    for face in (
        upright_landmarks(shape, 0.4),
        upright_landmarks(shape, 10),
        np.zeros((5, 2)),
        1e4 + FACE,
        -1e6 * FACE,
    ):
        result = self_blended(image, face, rng(0))
        assert result is None or (result.shape == image.shape and result.dtype == np.uint8)


def test_without_a_seam_a_face_stays_real() -> None:
    """The picture lies wholly inside the face, or the face wholly outside the picture."""
    for face in (upright_landmarks((256, 256), 0.2), FACE + 1000, np.full((5, 2), 7.0)):
        assert self_blended(PHOTO, face, rng(0)) is None
        assert {real_or_blended(PHOTO, face, rng(seed))[1] for seed in range(20)} == {Label.REAL}


def test_the_share_of_blended_faces_is_what_was_asked_for() -> None:
    assert {real_or_blended(PHOTO, FACE, rng(seed), 0.0)[1] for seed in range(20)} == {Label.REAL}
    assert {real_or_blended(PHOTO, FACE, rng(seed), 1.0)[1] for seed in range(20)} == {Label.FAKE}


def test_about_half_of_the_real_faces_become_fakes_and_half_of_the_others_are_altered() -> None:
    results = [real_or_blended(PHOTO, FACE, rng(seed)) for seed in range(100)]
    fakes = sum(label == Label.FAKE for _, label in results)
    same = sum(np.array_equal(image, PHOTO) for image, label in results if label == Label.REAL)
    assert 35 <= fakes <= 65
    assert 0.3 <= same / (100 - fakes) <= 0.7
