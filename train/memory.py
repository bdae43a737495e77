"""Whether a training fits into memory, measured before it begins."""

import ctypes
import os
import sys
from pathlib import Path

import torch
from torch import Tensor

from dfpipe.errors import ConfigError, ResourceError
from dfpipe.train.models import FaceClassifier
from dfpipe.train.stages import learning

GB = 1e9
# Weights, gradients and Adam's two running means, 4 bytes each.
BYTES_PER_LEARNING_PARAMETER = 16
SHARE = 0.9  # of the free memory that a training may plan with
PROBE_BATCH = 2
# mallopt(3): how many blocks may be mappings of their own, which go back to the system, and how much freed memory is kept.
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
KEPT_BYTES = 2**31 - 1  # the largest number that mallopt takes


def needed_bytes(network: FaceClassifier, image_size: int, batch_size: int) -> int:
    """What one training step takes: weights, their optimiser's state, and what the backward pass needs of the forward pass.

    The last is measured on a batch of `PROBE_BATCH`, by asking autograd what it keeps, and scaled. It is a lower bound: the
    working memory of single layers comes on top.

    Raises:
        ConfigError: The network cannot take pictures of this size.
    """
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    device = network.mean.device
    was_training = network.training
    network.eval()  # else the probe would change batch statistics and draw dropout
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(torch.zeros(PROBE_BATCH, 3, image_size, image_size, device=device)).sum()
    except (RuntimeError, ValueError, AssertionError) as error:  # each network has its own way to refuse a size
        raise ConfigError(
            f"no pictures of {image_size} px for this network ({str(error).splitlines()[0]}): change train.image_size"
        ) from error
    network.train(was_training)
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    activations = sum(size for place, size in kept.items() if place not in weights)
    own = sum(p.numel() * p.element_size() for p in network.parameters() if not p.requires_grad)
    fixed = own + BYTES_PER_LEARNING_PARAMETER * sum(p.numel() for p in learning(network))
    return fixed + activations * batch_size // PROBE_BATCH


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device; None where that cannot be told."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        (line,) = (line for line in lines if line.startswith("MemAvailable:"))
        return min(int(line.split()[1]) * 1024, _limit_of_group())
    except (OSError, ValueError):
        return None


def _limit_of_group() -> int:
    """The limit of a container, which /proc/meminfo does not know."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        return int(text) - used if text != "max" else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_fits(network: FaceClassifier, image_size: int, batch_size: int, free: int | None) -> None:
    """Refuses a training that cannot fit.

    Raises:
        ResourceError: Says what is needed, what there is, and what would fit.
    """
    needed = needed_bytes(network, image_size, batch_size)
    if free is None or needed <= SHARE * free:
        return
    smallest = needed_bytes(network, image_size, PROBE_BATCH)
    room = SHARE * free - smallest
    if room < 0:
        advice = "no batch of this network fits: take a smaller model or train.image_size"
    else:
        fits = PROBE_BATCH + int(room * (batch_size - PROBE_BATCH) / max(needed - smallest, 1))
        parts = -(-batch_size // fits)
        smaller = f"--set train.batch_size={-(-batch_size // parts)} --set train.accumulate={parts}"
        advice = f"use {smaller}: the same updates in parts"
    raise ResourceError(
        f"a step of {batch_size} crops of {image_size} px needs at least {needed / GB:.1f} GB, and {free / GB:.1f} GB are "
        f"free: {advice}"
    )


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees, for good, where glibc's allocator can be told.

    Else every step on a CPU asks the system anew for its larger tensors, page by page: a quarter of the time of the default
    model's step. The price is memory lost between blocks, measured 0.5 on 2.7 GB.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
