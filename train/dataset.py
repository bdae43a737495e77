"""Face crops of a manifest as tensors."""

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dfpipe.errors import DataError
from dfpipe.preprocess.manifest import Manifest
from dfpipe.train.balance import epoch_order
from dfpipe.train.transforms import AUGMENTATIONS
from dfpipe.workers import default_workers

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


class EpochSampler(Sampler[Draw]):
    """The draws of one epoch after the other; set `epoch` before each."""

    def __init__(self, labels: Sequence[int], balance: str, seed: int, at_most: int = 0) -> None:
        self._labels = labels
        self._balance = balance
        self._seed = seed
        self._at_most = at_most
        self.epoch = 0

    def __len__(self) -> int:
        return len(epoch_order(self._labels, self._balance, self._seed, 0, self._at_most))

    def __iter__(self) -> Iterator[Draw]:
        order = epoch_order(self._labels, self._balance, self._seed, self.epoch, self._at_most)
        seeds = np.random.default_rng([self._seed, self.epoch, 1]).integers(0, 2**62, len(order))
        yield from zip(order.tolist(), seeds.tolist(), strict=True)


def loader(
    dataset: CropDataset, sampler: Sampler[Draw] | Sequence[Draw], batch_size: int, workers: int, pinned: bool
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches in the order of the sampler.

    Args:
        dataset: Crops.
        sampler: Draws.
        batch_size: Crops per batch; the last may be smaller.
        workers: Reading processes; -1 = one per core, at most 8.
        pinned: Whether the batches go to a GPU.
    """
    processes = min(default_workers(), 8) if workers < 0 else workers
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=processes,
        pin_memory=pinned,
        persistent_workers=processes > 0,
        multiprocessing_context="spawn" if processes else None,
        worker_init_fn=_start_loader,
    )


def _start_loader(worker: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
