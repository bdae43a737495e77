"""Where networks run: a GPU when there is one, else the CPU."""

import contextlib
from contextlib import AbstractContextManager

import torch

from dfpipe.errors import UsageError


def pick_device(name: str = "auto") -> torch.device:
    """Turns a --device into a device.

    Args:
        name: "auto" (CUDA when there is one, else CPU) or any name that torch knows: cpu, cuda, cuda:1, mps.

    Raises:
        UsageError: No such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used on this machine: leave --device out, or use cpu") from error
    return device


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """Lower precision where it pays: bfloat16 on a GPU that has it, float16 on an older one, float32 on a CPU."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.autocast("cuda", dtype)
