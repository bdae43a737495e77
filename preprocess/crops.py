"""Cut one square face picture. The only function that does, for extraction and inference alike. Pure."""

import cv2
import numpy as np

from dfpipe.errors import DfpipeError
from dfpipe.preprocess.boxes import centre
from dfpipe.types import FaceBox, Image


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
    side = max(1, round(box.side * scale))
    x, y = centre(box)
    left, top = round(x - side / 2), round(y - side / 2)
    return resize(_cut(image, left, top, side), size)


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
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise DfpipeError("OpenCV could not encode a face crop as JPEG")
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
