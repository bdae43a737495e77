"""Fakes made from real faces: a picture blended with an altered copy of itself inside the outline of the face. Pure.

After Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022. A network that learns to tell these
learns the traces of blending that many kinds of face swap share, not those of one generator. "SBI" below are that paper's
values, from its section 3 or its authors' settings; the code and the outline are our own.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.preprocess.crops import LANDMARKS, Points, similarity
from dfpipe.train.degrade import Random, colour_matrix
from dfpipe.train.warp import warped
from dfpipe.types import Image, Label

# Half the outline of an upright face, from the chin up to the hairline, in the units of `LANDMARKS`. From mean adult
# proportions, the eyes 62 mm apart: faces 135 mm wide, chin 112 mm below the eyes, hairline 65 mm above.
_HALF = (
    *((0.0, 0.495), (0.085, 0.485), (0.16, 0.445), (0.22, 0.38), (0.27, 0.30), (0.305, 0.21), (0.335, 0.11)),
    *((0.355, 0.01), (0.365, -0.09), (0.36, -0.19), (0.335, -0.285), (0.285, -0.37), (0.21, -0.43), (0.11, -0.46)),
)
OUTLINE = (*_HALF, (0.0, -0.47), *((-x, y) for x, y in _HALF[:0:-1]))  # 28 points
BROWS = -0.21  # y of the upper end of faces without a forehead
NO_FOREHEAD = 0.25  # probability: SBI drops the points above the brows so often
OUTLINE_SPREAD = 0.02  # sigma, in units of the face, chosen here: people differ, where SBI has each face's own points
ELASTIC_SHIFT = 0.01  # sigma, in units of the face: SBI's elastic transform (alpha 50, sigma 7) on its pictures
ELASTIC_SIGMA = 0.05
# Side of the kernel that shrinks the mask, then of the one that softens it, in units of the face. SBI's 5 to 25 px are 0.04
# to 0.19 of its faces of some 135 px; with our average outline, more than 0.16 would lay bare the corners of the mouth.
EDGE = (0.04, 0.16)
RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)  # of blending, SBI
SHIFT_X, SHIFT_Y = 0.03, 0.015  # of the picture's sides, either way, SBI
ZOOM = (0.95, 1 / 0.95)  # SBI
# SBI adds to the values; as factors that do the same to mid grey, they leave dark faces their colour and their shadows.
RGB_SHIFT, RGB_PROBABILITY = 20 / 127.5, 0.3  # per channel, either way, SBI
BRIGHTNESS, CONTRAST = 0.2, 0.1  # either way, SBI: 0.1 of the full range, 0.1 of the distance from the mean
HUE_DEGREES, SATURATION = 4.0, 0.1  # either way, chosen here: SBI's 0.3 of 180 and of 255 steps are next to nothing
DOWNSCALES = (2, 4)  # SBI
SHARPEN, LIGHTNESS = (0.2, 0.5), (0.5, 1.0)  # share of the sharpened picture, and its brightness, SBI

_FACE_SIDE = (
    98  # px of the face: masks are soft, so they are drawn at the size of faces in crops of 128 px, and enlarged
)


def real_or_blended(image: Image, landmarks: Points, rng: Random, share: float = 0.5) -> tuple[Image, Label]:
    """Shows a real face as it is or as a fake.

    What stays real is altered as often as the ground of a fake is: otherwise a sharpened background would mean fake.

    Args:
        image: RGB uint8 (H, W, 3) of a real face.
        landmarks: (5, 2) in px of `image`.
        rng: Decides everything.
        share: How often it becomes a fake; SBI shows every face once as it is and once blended.
    """
    if rng.random() < share and (blended := self_blended(image, landmarks, rng)) is not None:
        return blended, Label.FAKE
    return _copies(image, rng)[1], Label.REAL


def self_blended(image: Image, landmarks: Points, rng: Random) -> Image | None:
    """Blends a face with an altered copy of itself.

    Args:
        image: RGB uint8 (H, W, 3).
        landmarks: (5, 2) in px of `image`.
        rng: Decides everything.

    Returns:
        RGB uint8 (H, W, 3); None where the picture shows nothing but the inside of a face, or nothing of it: then there
        is no seam to learn from.
    """
    share = mask(landmarks, image.shape[:2], rng)
    if share.min() > 0 or share.max() < 1:
        return None
    source, target = _copies(image, rng)
    return blend(_moved(source, rng), target, share * np.float32(rng.choice(RATIOS)))


def mask(landmarks: Points, shape: tuple[int, int], rng: Random) -> NDArray[np.float32]:
    """Where a face is replaced: the outline of an average face laid over five landmarks, deformed and softened.

    Args:
        landmarks: (5, 2) in px: eyes, nose, mouth corners.
        shape: Height and width of the picture in px.
        rng: Decides the deformation.

    Returns:
        (H, W), 0 outside and 1 inside.
    """
    height, width = shape
    if np.ptp(landmarks, axis=0).sum() == 0:
        return np.zeros(shape, np.float32)
    fit = similarity(np.array(LANDMARKS), landmarks)
    face = float(np.hypot(*fit[:, 0]))  # the unit of the outline in px
    scale = min(1.0, _FACE_SIDE / face)
    small, fit, face = (max(1, round(height * scale)), max(1, round(width * scale))), fit * scale, face * scale
    drawn = np.zeros(small, np.float32)
    cv2.fillConvexPoly(drawn, cv2.convexHull(np.rint(_outline(rng) @ fit[:, :2].T + fit[:, 2]).astype(np.int32)), 1.0)
    soft = _softened(_elastic(drawn, face, rng), face, rng)
    return np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def blend(source: Image, target: Image, share: NDArray[np.float32]) -> Image:
    """`source` where `share` is 1, `target`, bit by bit, where it is 0."""
    return np.asarray(cv2.blendLinear(source, target, share, 1 - share), np.uint8)


def _outline(rng: Random) -> Points:
    points = np.array(OUTLINE)
    if rng.random() < NO_FOREHEAD:
        points[:, 1] = np.maximum(points[:, 1], BROWS)
    return points + rng.normal(0, OUTLINE_SPREAD, points.shape)


def _elastic(drawn: NDArray[np.float32], face: float, rng: Random) -> NDArray[np.float32]:
    height, width = drawn.shape
    sigma = max(1.0, ELASTIC_SIGMA * face)
    # Smoothing white noise divides its sigma by 2 sqrt(pi) times that of the kernel.
    strength = ELASTIC_SHIFT * face * 2 * np.sqrt(np.pi) * sigma
    shift = cv2.GaussianBlur(rng.standard_normal((height, width, 2), np.float32), (0, 0), sigma) * np.float32(strength)
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    shift = shift.reshape(height, width, 2)
    moved = cv2.remap(
        drawn, columns + shift[..., 0], rows + shift[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.float32).reshape(height, width)


def _softened(drawn: NDArray[np.float32], face: float, rng: Random) -> NDArray[np.float32]:
    """Shrinks the mask by what a first blur takes from it, then blurs its edge; its inside is 1 again."""
    inner = cv2.GaussianBlur(drawn, _kernel(face, rng), 0)
    inner = (inner >= inner.max()).astype(np.float32) * np.float32(inner.max() > 0)
    size = _kernel(face, rng)
    soft = cv2.GaussianBlur(inner, size, size[0] / 2)  # nearly a box, as SBI's sigma of 5 to 45 px makes it
    return np.asarray(soft / max(float(soft.max()), 1e-6), np.float32)


def _kernel(face: float, rng: Random) -> tuple[int, int]:
    side = 2 * int(rng.uniform(*EDGE) * face / 2) + 1
    return side, side


def _copies(image: Image, rng: Random) -> tuple[Image, Image]:
    """The picture twice, (source, target), one of the two altered."""
    altered = _sharper_or_coarser(_recoloured(image, rng), rng)
    return (altered, image) if rng.random() < 0.5 else (image, altered)


def _recoloured(image: Image, rng: Random) -> Image:
    hue, saturation = rng.uniform(-HUE_DEGREES, HUE_DEGREES), 1 + rng.uniform(-SATURATION, SATURATION)
    gains = np.full((3, 1), 1 + rng.uniform(-BRIGHTNESS, BRIGHTNESS))
    if rng.random() < RGB_PROBABILITY:
        gains = gains + rng.uniform(-RGB_SHIFT, RGB_SHIFT, (3, 1))
    matrix = colour_matrix(saturation, hue) * gains
    stretch = 1 + rng.uniform(-CONTRAST, CONTRAST)
    shift = (1 - stretch) * matrix @ np.array(cv2.mean(image)[:3])
    return np.asarray(cv2.transform(image, np.column_stack([stretch * matrix, shift])), np.uint8)


def _sharper_or_coarser(image: Image, rng: Random) -> Image:
    if rng.random() < 0.5:
        share, lightness = rng.uniform(*SHARPEN), rng.uniform(*LIGHTNESS)
        kernel = np.full((3, 3), -share)
        kernel[1, 1] = 1 - share + share * (8 + lightness)
        return np.asarray(cv2.filter2D(image, -1, kernel), np.uint8)
    height, width = image.shape[:2]
    factor = DOWNSCALES[rng.integers(len(DOWNSCALES))]
    small = (max(1, width // factor), max(1, height // factor))
    coarse = cv2.resize(image, small, interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _moved(image: Image, rng: Random) -> Image:
    """Slightly enlarged or reduced around its centre, and shifted."""
    height, width = image.shape[:2]
    zoom = rng.uniform(*ZOOM)
    x, y = rng.uniform(-SHIFT_X, SHIFT_X) * width, rng.uniform(-SHIFT_Y, SHIFT_Y) * height
    matrix = np.array([[zoom, 0, (1 - zoom) * width / 2 + x], [0, zoom, (1 - zoom) * height / 2 + y]])
    return warped(image, matrix, cv2.BORDER_REFLECT_101)
