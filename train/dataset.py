"""Face crops of a manifest as tensors."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dfpipe.errors import DataError
from dfpipe.preprocess.manifest import Manifest
from dfpipe.train.transforms import AUGMENTATIONS

Draw = tuple[int, int]  # (position in the dataset, seed of this showing's augmentation)


class CropDataset(Dataset[tuple[Tensor, Tensor]]):
    """Crops of some rows of a manifest. Indexed by `Draw`, so that what is drawn does not depend on loader processes."""

    def __init__(self, manifest: Manifest, rows: Sequence[int], image_size: int, augment: str) -> None:
        self._paths = [str(manifest.path(row)) for row in rows]
        self.labels: list[int] = [manifest.columns["label"][row] for row in rows]
        self._image_size = image_size
        self._augment = augment

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """One crop.

        Returns:
            (3, S, S) float32 in 0..1, and its label as a float32 scalar.

        Raises:
            DataError: The crop is missing or damaged.
        """
        position, seed = draw
        transform = _transform(self._augment, self._image_size)
        picture = cv2.imread(self._paths[position], cv2.IMREAD_COLOR)
        if picture is None:
            raise DataError(f"crop {self._paths[position]} is missing or damaged: run the same 'dfpipe extract' again")
        image = torch.from_numpy(np.ascontiguousarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).transpose(2, 0, 1)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tensor = transform(image)
        return tensor, torch.tensor(float(self.labels[position]))


def _transform(augment: str, size: int) -> Callable[[Tensor], Tensor]:
    key = (augment, size)
    if key not in _transforms:
        _transforms[key] = AUGMENTATIONS[augment](size)
    return _transforms[key]


_transforms: dict[tuple[str, int], Callable[[Tensor], Tensor]] = {}  # built once per loader process
