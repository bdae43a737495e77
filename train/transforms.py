"""Face crops to network input: augmented for training, plain for validation and inference.

Validation and inference call the same function, so that the network sees in use what it was chosen on.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

ROTATION_DEGREES = 10.0
CROP_AREA = (0.8, 1.0)  # share of the picture that is kept
CROP_RATIO = (0.95, 1.05)


def resized(images: Tensor, size: int) -> Tensor:
    """The whole preprocessing of inference after the crop.

    Args:
        images: (..., 3, H, W) uint8 RGB.
        size: Side that the network wants, in px.

    Returns:
        (..., 3, size, size) float32 in 0..1.
    """
    resized: Tensor = v2.functional.resize(
        images.float() / 255, [size, size], InterpolationMode.BILINEAR, antialias=True
    )
    return resized.clamp(0, 1)


def _none(size: int) -> Callable[[Tensor], Tensor]:
    return lambda image: resized(image, size)


def _light(size: int) -> Callable[[Tensor], Tensor]:
    steps = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomRotation([-ROTATION_DEGREES, ROTATION_DEGREES], InterpolationMode.BILINEAR),
            v2.RandomResizedCrop(size, CROP_AREA, CROP_RATIO, InterpolationMode.BILINEAR, antialias=True),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return lambda image: steps(image)


AUGMENTATIONS: dict[str, Callable[[int], Callable[[Tensor], Tensor]]] = {"none": _none, "light": _light}
