"""Batches of crops in an order that depends on the seed alone, not on the processes that read them."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from dfpipe.train.balance import epoch_order
from dfpipe.train.dataset import CropDataset, Draw
from dfpipe.workers import default_workers


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
