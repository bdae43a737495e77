"""Face crops to network input: augmented for training, plain for validation and inference.

Validation and inference call the same function, so that the network sees in use what it was chosen on.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode, v2

from dfpipe.preprocess.crops import Points, upright_landmarks
from dfpipe.train.degrade import degraded
from dfpipe.train.selfblend import real_or_blended
from dfpipe.train.warp import warped
from dfpipe.types import Image, Label

ROTATION_DEGREES = 10.0
MIRRORED = 0.5  # probability
CROP_AREA = (0.8, 1.0)  # share of the picture that is kept
CROP_RATIO = (0.95, 1.05)  # width / height of what is kept
CROP_TRIES = 10  # until a window fits into the picture, as in torchvision's RandomResizedCrop
RECODING = ("shrink", "jpeg", "video")  # of the steps of degrade.py


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One crop with what is known of it."""

    image: Image  # (H, W, 3) uint8 RGB
    label: int
    landmarks: Points | None  # (5, 2) in px of the crop; None = unknown, or where an upright face has them
    crop_scale: float  # side of the crop / longer side of the face box
    blend_share: float = 0.5  # how often self-blending makes a fake of a real face


# A drawing gives a picture for `in_unit_range`, (3, S, S), and the label, which differs from the sample's where a real face
# became a fake. Chance comes from the generator alone.
Drawing = Callable[[Sample, Generator], tuple[Tensor, float]]


def resized(images: Tensor, size: int) -> Tensor:
    """The whole preprocessing of inference after the crop.

    Args:
        images: (..., 3, H, W) uint8 RGB.
        size: Side that the network wants, in px.

    Returns:
        (..., 3, size, size) float32 in 0..1.
    """
    if images.ndim > 3 and images.device.type == "cpu":
        return torch.stack([resized(image, size) for image in images])  # one at a time stays in the core's cache
    floats = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    resized_: Tensor = v2.functional.resize(floats, [size, size], InterpolationMode.BILINEAR, antialias=True)
    return resized_.clamp_(0, 1)


def in_unit_range(images: Tensor) -> Tensor:
    """What networks take of what drawings give: whole batches at once, on the device, after a fourth of the bytes was moved.

    Args:
        images: uint8 RGB, or float32 in 0..1 already.

    Returns:
        float32 in 0..1, of the same shape and in the same order in memory.
    """
    return images if images.is_floating_point() else images.to(torch.float32).mul_(1 / 255)


def _none(size: int) -> Drawing:
    """In float32: nothing is rounded to whole steps, as at inference."""
    return lambda sample, chance: (
        resized(torch.from_numpy(sample.image).permute(2, 0, 1), size),
        float(sample.label),
    )


def _light(size: int) -> Drawing:
    """Flip, rotation, crop."""
    return lambda sample, chance: (_placed(sample.image, size, chance), float(sample.label))


def _recoded(size: int) -> Drawing:
    """What networks alone do to a picture, then as `_light`: for trainings too short for `_strong`."""
    return _degraded(size, RECODING)


def _strong(size: int) -> Drawing:
    """What cameras, editors and networks do to a picture, then as `_light`: in use, crops are cut from what they leave."""
    return _degraded(size)


def _degraded(size: int, only: Collection[str] = ()) -> Drawing:
    """All go through the named steps of degrade.py; none = all."""

    def draw(sample: Sample, chance: Generator) -> tuple[Tensor, float]:
        image = degraded(sample.image, _landmarks(sample), _random(chance), only)
        return _placed(image, size, chance), float(sample.label)

    return draw


def _self_blend(size: int) -> Drawing:
    """A share of the real faces become fakes, then all as `_strong`."""
    return _blended(size)


def _recoded_blend(size: int) -> Drawing:
    """A share of the real faces become fakes, then all as `_recoded`."""
    return _blended(size, RECODING)


def _blended(size: int, only: Collection[str] = ()) -> Drawing:
    """A share of the real faces become fakes, then all go through the named steps of degrade.py; none = all."""

    def draw(sample: Sample, chance: Generator) -> tuple[Tensor, float]:
        image, landmarks, label, rng = sample.image, _landmarks(sample), sample.label, _random(chance)
        if label == Label.REAL:
            image, label = real_or_blended(image, landmarks, rng, sample.blend_share)
        return _placed(degraded(image, landmarks, rng, only), size, chance), float(label)

    return draw


def _placed(image: Image, size: int, chance: Generator) -> Tensor:
    """Turns, mirrors, cuts and resizes. Returns (3, size, size) uint8, colour innermost in memory.

    Through OpenCV as far as it does the same: its rotation takes a tenth of torchvision's time.
    """
    turned = _rotated(image, chance)
    if float(torch.rand((), generator=chance)) < MIRRORED:
        turned = np.asarray(cv2.flip(turned, 1), np.uint8)
    top, left, height, width = _window(image.shape[0], image.shape[1], chance)
    window = torch.from_numpy(turned[top : top + height, left : left + width]).permute(2, 0, 1)
    placed: Tensor = v2.functional.resize(window, [size, size], InterpolationMode.BILINEAR, antialias=True)
    return placed


def _rotated(image: Image, chance: Generator) -> Image:
    height, width = image.shape[:2]
    degrees = _uniform(-ROTATION_DEGREES, ROTATION_DEGREES, chance)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return warped(image, np.asarray(matrix, np.float64))


def _window(height: int, width: int, chance: Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of what is kept, as torchvision's RandomResizedCrop draws them, without its overhead."""
    low, high = torch.log(torch.tensor(CROP_RATIO)).tolist()
    for _ in range(CROP_TRIES):
        area = height * width * _uniform(*CROP_AREA, chance)
        ratio = float(torch.exp(torch.tensor(_uniform(low, high, chance))))
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            top = int(torch.randint(height - tall + 1, (), generator=chance))
            return top, int(torch.randint(width - wide + 1, (), generator=chance)), tall, wide
    wide = min(width, round(height * CROP_RATIO[1]))
    tall = min(height, round(width / CROP_RATIO[0]))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def _uniform(low: float, high: float, chance: Generator) -> float:
    return float(torch.empty(()).uniform_(low, high, generator=chance))


def _random(chance: Generator) -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**62, (), generator=chance)))


def _landmarks(sample: Sample) -> Points:
    if sample.landmarks is not None:
        return sample.landmarks
    height, width = sample.image.shape[:2]
    return upright_landmarks((height, width), sample.crop_scale)


AUGMENTATIONS: dict[str, Callable[[int], Drawing]] = {
    "none": _none,
    "light": _light,
    "recoded": _recoded,
    "strong": _strong,
    "self_blend": _self_blend,
    "recoded_blend": _recoded_blend,
}
