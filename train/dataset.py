"""Face crops of a manifest as tensors."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dfpipe.errors import DataError
from dfpipe.preprocess.cropfiles import crop_bytes, located
from dfpipe.preprocess.crops import LANDMARKS, Points, landmarks_in_crop
from dfpipe.preprocess.manifest import Manifest, read_faces
from dfpipe.train.transforms import AUGMENTATIONS, Drawing, Sample
from dfpipe.types import FaceBox

Draw = tuple[int, int]  # (position in the dataset, seed of this showing's augmentation)

_BOX = ("x1", "y1", "x2", "y2")


class CropDataset(Dataset[tuple[Tensor, Tensor]]):
    """Crops of some rows of a manifest. Indexed by `Draw`, so that what is drawn does not depend on loader processes."""

    def __init__(
        self, manifest: Manifest, rows: Sequence[int], image_size: int, augment: str, blend_share: float = 0.5
    ) -> None:
        columns = manifest.columns
        crops, labels = columns["crop"], columns["label"]
        self._paths = [f"{manifest.folder}/{crops[row]}" for row in rows]
        self.labels: list[int] = [labels[row] for row in rows]
        self.image_size = image_size
        self.augment = augment
        self.blend_share = blend_share
        self._scales = _numbers(columns["crop_scale"], rows)
        self._boxes = np.stack([_numbers(columns[side], rows) for side in _BOX], axis=1)
        self._landmarks = _landmarks(manifest, rows)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """One crop.

        Returns:
            A picture for `in_unit_range`, (3, S, S), and the label of what was drawn as a float32 scalar.

        Raises:
            DataError: The crop is missing or damaged.
        """
        position, seed = draw
        transform = _transform(self.augment, self.image_size)
        tensor, label = transform(self.sample(position), torch.Generator().manual_seed(seed))
        return tensor, torch.tensor(label)

    def sample(self, position: int) -> Sample:
        """One crop as it lies on disk.

        Raises:
            DataError: It is missing or damaged.
        """
        picture = _read(self._paths[position])
        if picture is None:
            raise DataError(f"crop {self._paths[position]} is missing or damaged: run the same 'dfpipe extract' again")
        image = np.asarray(picture, np.uint8)
        scale = float(self._scales[position])
        x1, y1, x2, y2 = self._boxes[position].tolist()
        landmarks, box = self._landmarks[position], FaceBox(x1, y1, x2, y2, 1.0)
        known = None if np.isnan(landmarks).any() else landmarks_in_crop(landmarks, box, scale, image.shape[0])
        return Sample(image, self.labels[position], known, scale, self.blend_share)


def _read(path: str) -> Any:
    """The picture, or None. From a tar file it takes a copy more than OpenCV's own reading."""
    if located(path)[2] is None:
        return cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    try:
        return cv2.imdecode(np.frombuffer(crop_bytes(path), np.uint8), cv2.IMREAD_COLOR_RGB)
    except (OSError, cv2.error):
        return None


def _numbers(column: Sequence[float | None], rows: Sequence[int]) -> NDArray[np.float32]:
    return np.array([column[row] for row in rows], np.float32)


def _landmarks(manifest: Manifest, rows: Sequence[int]) -> Points:
    """Landmarks in px of the full frame, (N, 5, 2), NaN where they are unknown or the face was aligned.

    An aligned crop has them where an upright face has them, which is what is assumed of unknown ones.
    """
    unknown = [np.nan] * (2 * len(LANDMARKS))
    column = manifest.columns["landmarks"]
    points = [column[row] or unknown for row in rows]
    if any(len(of_face) != len(unknown) for of_face in points):
        raise DataError(f"{manifest.folder}: faces with other than {len(LANDMARKS)} landmarks: extract again")
    listed = np.fromiter(chain.from_iterable(points), np.float64).reshape(-1, len(LANDMARKS), 2)
    if not np.isnan(listed).all() and read_faces(manifest.folder).align:
        listed[:] = np.nan
    return listed


def _transform(augment: str, size: int) -> Drawing:
    key = (augment, size)
    if key not in _transforms:
        _transforms[key] = AUGMENTATIONS[augment](size)
    return _transforms[key]


_transforms: dict[tuple[str, int], Drawing] = {}  # built once per loader process
