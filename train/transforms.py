"""Face crops to network input: augmented for training, plain for validation and inference.

Validation and inference call the same function, so that the network sees in use what it was chosen on.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from dfpipe.preprocess.crops import Points, upright_landmarks
from dfpipe.train.degrade import degraded
from dfpipe.train.selfblend import real_or_blended
from dfpipe.types import Image, Label

ROTATION_DEGREES = 10.0
CROP_AREA = (0.8, 1.0)  # share of the picture that is kept
CROP_RATIO = (0.95, 1.05)
RECODING = ("shrink", "jpeg", "video")  # of the steps of degrade.py


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One crop with what is known of it."""

    image: Tensor  # (3, H, W) uint8 RGB
    label: int
    landmarks: Points | None  # (5, 2) in px of the crop; None = unknown, or where an upright face has them
    crop_scale: float  # side of the crop / longer side of the face box
    blend_share: float = 0.5  # how often self-blending makes a fake of a real face


# A drawing gives (3, S, S) float32 in 0..1 and the label, which differs from the sample's where a real face became a fake.
# Chance comes from torch's global generator alone.
Drawing = Callable[[Sample], tuple[Tensor, float]]


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


def _none(size: int) -> Drawing:
    return lambda sample: (resized(sample.image, size), float(sample.label))


def _light(size: int) -> Drawing:
    """Flip, rotation, crop."""
    placed = _placed(size)
    return lambda sample: (placed(_array(sample)), float(sample.label))


def _recoded(size: int) -> Drawing:
    """What networks alone do to a picture, then as `_light`: for trainings too short for `_strong`."""
    placed = _placed(size)
    return lambda sample: (
        placed(degraded(_array(sample), _landmarks(sample), _random(), RECODING)),
        float(sample.label),
    )


def _strong(size: int) -> Drawing:
    """What cameras, editors and networks do to a picture, then as `_light`: in use, crops are cut from what they leave."""
    placed = _placed(size)
    return lambda sample: (placed(degraded(_array(sample), _landmarks(sample), _random())), float(sample.label))


def _self_blend(size: int) -> Drawing:
    """A share of the real faces become fakes, then all as `_strong`."""
    return _blended(size)


def _recoded_blend(size: int) -> Drawing:
    """A share of the real faces become fakes, then all as `_recoded`."""
    return _blended(size, RECODING)


def _blended(size: int, only: Collection[str] = ()) -> Drawing:
    """A share of the real faces become fakes, then all go through the named steps of degrade.py; none = all."""
    placed = _placed(size)

    def draw(sample: Sample) -> tuple[Tensor, float]:
        image, landmarks, label, rng = _array(sample), _landmarks(sample), sample.label, _random()
        if label == Label.REAL:
            image, label = real_or_blended(image, landmarks, rng, sample.blend_share)
        return placed(degraded(image, landmarks, rng, only)), float(label)

    return draw


def _placed(size: int) -> Callable[[Image], Tensor]:
    """Rotation through OpenCV, in a sixth of torchvision's time (0.5 of 3.2 ms for 256 px); the rest through torchvision."""
    steps = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomResizedCrop(size, CROP_AREA, CROP_RATIO, InterpolationMode.BILINEAR, antialias=True),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return lambda image: steps(torch.from_numpy(np.ascontiguousarray(_rotated(image).transpose(2, 0, 1))))


def _rotated(image: Image) -> Image:
    height, width = image.shape[:2]
    degrees = float(torch.empty(()).uniform_(-ROTATION_DEGREES, ROTATION_DEGREES))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR), np.uint8)


def _random() -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**62, ())))


def _array(sample: Sample) -> Image:
    return np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())


def _landmarks(sample: Sample) -> Points:
    if sample.landmarks is not None:
        return sample.landmarks
    height, width = sample.image.shape[1:]
    return upright_landmarks((height, width), sample.crop_scale)


AUGMENTATIONS: dict[str, Callable[[int], Drawing]] = {
    "none": _none,
    "light": _light,
    "recoded": _recoded,
    "strong": _strong,
    "self_blend": _self_blend,
    "recoded_blend": _recoded_blend,
}
