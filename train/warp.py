"""Pictures moved, turned and stretched. Pure."""

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.types import Image


def warped(image: Image, matrix: NDArray[np.float64], border: int = cv2.BORDER_CONSTANT) -> Image:
    """A picture after an affine change, in its old shape.

    OpenCV warps four channels in half the time that it takes for three (0.25 against 0.45 ms for 256 px), to the same
    values: so a fourth is lent to it.

    Args:
        image: RGB uint8 (H, W, 3).
        matrix: (2, 3), from places in `image` to places in the result.
        border: What lies around the picture, as OpenCV names it; black by default.
    """
    height, width = image.shape[:2]
    four = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    moved = cv2.warpAffine(four, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB), np.uint8)
