"""Cut one square face picture. The only function that does, for extraction and inference alike. Pure."""

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import DfpipeError
from dfpipe.preprocess.boxes import centre
from dfpipe.types import FaceBox, Image

Points = NDArray[np.float64]  # (N, 2), x and y in px


def crop_face(image: Image, box: FaceBox, scale: float, size: int) -> Image:
    """Cuts the square around a face and resizes it.

    The square is centred on the box; its side is `scale` x the longer side of the box, rounded to whole pixels. Where it
    reaches past the picture, the edge pixels are repeated: black bars would tell a network where faces stood in the frame.

    Args:
        image: RGB uint8 (H, W, 3).
        box: In px of `image`; may reach past it.
        scale: Side of the square / longer side of the box.
        size: Side of the result in px.

    Returns:
        RGB uint8 (size, size, 3).
    """
    return resize(_cut(image, *_square(box, scale)), size)


def _square(box: FaceBox, scale: float) -> tuple[int, int, int]:
    """Left, top and side in px of the square around a face."""
    side = max(1, round(box.side * scale))
    x, y = centre(box)
    return round(x - side / 2), round(y - side / 2), side


# Where eyes, nose and mouth corners of an upright face lie, from the centre of its MTCNN box in units of the box's longer
# side: mean over 394 FFHQ portraits, made symmetric. A crop so aligned shows as much of a face as one that is not.
LANDMARKS = ((-0.170, -0.111), (0.170, -0.111), (0.0, 0.090), (-0.156, 0.246), (0.156, 0.246))


def align_face(image: Image, box: FaceBox, scale: float, size: int) -> Image:
    """Cuts a face turned upright, so that its five landmarks lie where `LANDMARKS` says.

    As nearly as turning, shifting and one scale for both axes can bring them (least squares). Past the border, the edge
    pixels are repeated.

    Args:
        image: RGB uint8 (H, W, 3).
        box: With five landmarks; without them the crop is cut by `crop_face`.
        scale: Side of the square / longer side of the box of an upright face.
        size: Side of the result in px.

    Returns:
        RGB uint8 (size, size, 3).
    """
    if len(box.landmarks) != len(LANDMARKS) or len(set(box.landmarks)) == 1:
        return crop_face(image, box, scale, size)
    matrix = similarity(np.array(box.landmarks), upright_landmarks((size, size), scale))
    return _warp(image, matrix, float(np.hypot(*matrix[:, 0])), size)


def upright_landmarks(shape: tuple[int, int], scale: float) -> Points:
    """Where the five landmarks lie in a crop of an upright face.

    Args:
        shape: Height and width of the crop in px.
        scale: Side of the crop / longer side of the face box.

    Returns:
        (5, 2), x and y in px of the crop.
    """
    height, width = shape
    return np.array(LANDMARKS) * max(shape) / scale + np.array([width, height]) / 2


def landmarks_in_crop(landmarks: Points, box: FaceBox, scale: float, size: int) -> Points:
    """Where `crop_face` puts points of the picture that it cuts.

    Args:
        landmarks: (N, 2), x and y in px of the picture.
        box: As given to `crop_face`, like `scale` and `size`.
        scale: Side of the square / longer side of the box.
        size: Side of the crop in px.

    Returns:
        (N, 2) in px of the crop.
    """
    left, top, side = _square(box, scale)
    return np.asarray((landmarks - np.array([left, top])) * (size / side), np.float64)


def similarity(points: Points, onto: Points) -> NDArray[np.float64]:
    """The turn, shift and one scale for both axes that bring points nearest to others (least squares).

    Args:
        points: (N, 2), not all in one place.
        onto: (N, 2).

    Returns:
        (2, 3), as OpenCV's affine functions take it.
    """
    # Points as complex numbers: turning and scaling is one factor, shifting one summand.
    seen, wanted = points @ np.array([1, 1j]), onto @ np.array([1, 1j])
    spread = seen - seen.mean()
    factor = np.vdot(spread, wanted - wanted.mean()) / np.vdot(spread, spread).real
    shift = wanted.mean() - factor * seen.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _warp(image: Image, matrix: NDArray[np.float64], factor: float, size: int) -> Image:
    """Applies a similarity; a shrinking one in two steps, because bilinear sampling of every second pixel aliases."""
    inner = size if factor >= 1 else round(size / factor)
    warped = cv2.warpAffine(
        image, matrix * (inner / size), (inner, inner), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return resize(np.asarray(warped, np.uint8), size)


def resize(square: Image, size: int) -> Image:
    """Resizes to (size, size): by area when shrinking, which does not alias, by cubic interpolation when growing."""
    shrinks = square.shape[0] > size
    resized = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)


def squared(image: Image) -> Image:
    """Makes a picture square by repeating the edge pixels of its shorter side on both ends."""
    height, width = image.shape[:2]
    side = max(height, width)
    return _cut(image, (width - side) // 2, (height - side) // 2, side)


def padded(image: Image, px: int) -> Image:
    """Repeats the edge pixels `px` wide on all sides."""
    return np.asarray(cv2.copyMakeBorder(image, px, px, px, px, cv2.BORDER_REPLICATE), np.uint8)


def encode_jpeg(image: Image, quality: int) -> bytes:
    """RGB picture to JPEG without colour subsampling (4:4:4), which would smear the very edges that give fakes away."""
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return _encoded(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])


def encode_png(image: Image) -> bytes:
    """RGB picture to PNG: nothing is lost, for about four times the bytes."""
    return _encoded(image, ".png", [])


def _encoded(image: Image, suffix: str, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise DfpipeError(f"OpenCV could not encode a face crop as {suffix}")
    return data.tobytes()


def _cut(image: Image, left: int, top: int, side: int) -> Image:
    height, width = image.shape[:2]
    # At least one pixel of the picture is always in, so that there is an edge to repeat.
    x1, y1 = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    x2, y2 = max(min(left + side, width), x1 + 1), max(min(top + side, height), y1 + 1)
    inner = image[y1:y2, x1:x2]
    before_x, before_y = min(max(0, -left), side - (x2 - x1)), min(max(0, -top), side - (y2 - y1))
    after_x, after_y = side - (x2 - x1) - before_x, side - (y2 - y1) - before_y
    bordered = cv2.copyMakeBorder(inner, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE)
    return np.asarray(bordered, np.uint8)
