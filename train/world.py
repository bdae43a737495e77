"""This process among those that train together: one alone, or those that torchrun started."""

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dfpipe.errors import DataError, DfpipeError, Interrupted, UsageError

log = logging.getLogger(__name__)

T = TypeVar("T")

# For one that reads its data from a slow disk, or saves to one, while the others wait: torch's own limit for NCCL.
PATIENCE = timedelta(minutes=10)


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

    def together(self, work: Callable[[], T]) -> T:
        """Does in every process what may fail in one: if it does, all end with its error instead of waiting for it.

        Raises:
            DfpipeError: What `work` raised here, else what it raised in the first process where it failed.
        """
        made: list[T] = []
        failure = None
        try:
            made.append(work())
        except DfpipeError as error:
            failure = error
        failures = self.gathered(failure and (socket.gethostname(), failure))
        if failure is not None:
            raise failure
        for rank, failed in enumerate(failures):
            if failed is not None:
                host, reason = failed
                raise type(reason)(f"rank {rank} on {host}: {reason}")
        return made[0]

    def agreed(self, work: Callable[[], T]) -> T:
        """What the first process makes; every process gets it, or the error that the first met."""
        held: list[Any] = [self.together(lambda: work() if self.first else None)]
        if self.size > 1:
            dist.broadcast_object_list(held)
        made: T = held[0]
        return made

    def copy_buffers(self, network: nn.Module) -> None:
        """Gives every process the first one's buffers, as batch statistics: each moves its own in a step on a CPU."""
        if self.size > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def check_alike(self, values: Mapping[str, str]) -> None:
        """Refuses processes that do not do the same.

        Args:
            values: What must be equal everywhere, by the name that a person knows it by.

        Raises:
            DataError: It is not; the message names what differs, and where.
        """
        host = socket.gethostname()
        (first_host, first), *others = self.gathered((host, dict(values)))
        for rank, (host, held) in enumerate(others, 1):
            if different := [name for name, value in first.items() if held[name] != value]:
                raise DataError(
                    f"rank {rank} on {host} has other {' and other '.join(different)} than rank 0 on {first_host}: "
                    "start all of them with the same command on the same files"
                )

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
        Interrupted: Another process has ended, or has not answered for `PATIENCE`.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(), device
        return
    rank = int(os.environ["RANK"])
    if rank:
        logging.getLogger("dfpipe").setLevel(logging.ERROR)  # one log, that of the first
    _warn_of_restarts()
    with _peers(size):
        # What is no tensor goes over gloo, so that processes without a working GPU can say so.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        try:
            world = World(rank, size)
            yield world, world.together(lambda: _own(device))
        finally:
            dist.destroy_process_group()


def launch() -> str:
    """What torchrun calls this start: the same after it has started all processes again. Empty without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return "" if name == "none" else name  # what it calls every start that was given no --rdzv-id


def _warn_of_restarts() -> None:
    """Says what torchrun needs to start processes again.

    torch up to 2.14 at least keeps the store in which the processes find each other, and with it the addresses of those
    that have ended: pytorch issues 135712 and 167288.
    """
    again = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"
    if again and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        log.warning(
            "--max-restarts will not work: give torchrun --rdzv-backend=c10d, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 "
            "in its environment"
        )


def _own(device: torch.device) -> torch.device:
    """The GPU of this process, of those of its machine."""
    if device.type != "cuda":
        return device
    local, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= count:
        here = os.environ.get("LOCAL_WORLD_SIZE", "several")
        raise UsageError(f"{here} processes, but {count} GPUs here: lower --nproc_per_node")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


_GLOO = ("gloo/", "pair closure")  # what its errors have in common: a place in its code, or how a silent peer is told


@contextlib.contextmanager
def _peers(size: int) -> Iterator[None]:
    """Tells of a lost process in words. Torch's collectives raise DistError; those of gloo no kind of their own."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(words in str(error) for words in _GLOO):
            raise
        raise Interrupted(
            f"one of the {size} processes has ended or did not answer: see what it said; saved states are kept ({error})"
        ) from error
