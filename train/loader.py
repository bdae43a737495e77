"""Batches of crops in an order that depends on the seed alone, not on the processes that read or train."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from dfpipe.train.balance import Indices, Kinds, epoch_order
from dfpipe.train.dataset import CropDataset, Draw
from dfpipe.train.world import World
from dfpipe.workers import default_workers


class EpochSampler(Sampler[Draw]):
    """The draws of one epoch after the other; set `epoch` before each, and `skip` to begin in its middle.

    Several processes share every step: together they see what one process would with a batch that is as many times
    larger, in the same order.

    Args:
        kinds: Of every crop.
        balance: A key of `BALANCES`.
        seed: Of the run.
        at_most: See `epoch_order`.
        batch_size: Crops per step and process.
        world: This process among those that train together.
    """

    def __init__(
        self, kinds: Kinds, balance: str, seed: int, at_most: int, batch_size: int, world: World | None = None
    ) -> None:
        self._kinds, self._balance, self._seed, self._at_most = kinds, balance, seed, at_most
        self._batch_size, self._world = batch_size, world or World()
        self.epoch = 0
        self.skip = 0  # batches of this epoch that were seen already
        self.whole = len(self._mine(len(self.order())))  # draws of this process in an epoch

    def order(self) -> Indices:
        """The crops of this epoch, of all processes."""
        return epoch_order(self._kinds, self._balance, self._seed, self.epoch, self._at_most)

    def __len__(self) -> int:
        return self.whole - self.skip * self._batch_size

    def __iter__(self) -> Iterator[Draw]:
        order = self.order()
        seeds = np.random.default_rng([self._seed, self.epoch, 1]).integers(0, 2**62, len(order))
        mine = self._mine(len(order))[self.skip * self._batch_size :]
        yield from zip(order[mine].tolist(), seeds[mine].tolist(), strict=True)

    def _mine(self, total: int) -> Indices:
        """This process's places in the order: of every step its share, the same number in every process.

        What the last step cannot share out evenly is left out, and a last batch of one crop, which batch normalisation
        cannot work with.
        """
        rank, size, batch = self._world.rank, self._world.size, self._batch_size
        step = batch * size
        whole = total // step * step
        last = (total - whole) // size
        if last == 1 and whole:
            last = 0
        full = np.arange(whole).reshape(-1, size, batch)[:, rank].ravel()
        return np.concatenate([full, whole + rank * last + np.arange(last)])


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
        collate_fn=_batch,
        num_workers=processes,
        pin_memory=pinned,
        persistent_workers=processes > 0,
        multiprocessing_context="spawn" if processes else None,
        worker_init_fn=_start_loader,
        generator=torch.Generator(),  # else every pass would draw from the generator that dropout draws from
    )


def _batch(drawn: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Pictures and labels as one each, the pictures with colour innermost in memory, as drawings and networks have it."""
    images = torch.stack([image.permute(1, 2, 0) for image, _ in drawn]).permute(0, 3, 1, 2)
    return images, torch.stack([label for _, label in drawn])


def _start_loader(worker: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
