"""This process among those that train together: one alone, or those that torchrun started."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dfpipe.errors import UsageError


@dataclass(frozen=True)
class World:
    """Place and number of the processes; alone by default."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and tells."""
        return self.rank == 0

    def gathered(self, value: Any) -> list[Any]:
        """What each process holds, in the order of ranks; every process gets all."""
        if self.size == 1:
            return [value]
        held: list[Any] = [None] * self.size
        dist.all_gather_object(held, value)
        return held

    def agreed(self, value: Any) -> Any:
        """What the first process holds."""
        return self.gathered(value)[0]

    def shared(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network with gradients averaged over the processes; alone, the network itself."""
        if self.size == 1:
            return network
        return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """Joins the processes that torchrun started, if it did.

    Yields:
        This process's place, and its device: with several processes each takes a GPU of its own.

    Raises:
        UsageError: More processes than GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(), device
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"{os.environ.get('LOCAL_WORLD_SIZE', size)} processes but {torch.cuda.device_count()} GPUs here: "
                "lower --nproc_per_node"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if int(os.environ["RANK"]):
        logging.getLogger("dfpipe").setLevel(logging.ERROR)  # one log, that of the first
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size), device
    finally:
        dist.destroy_process_group()
