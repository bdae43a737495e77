"""Where networks run: a GPU when there is one, else the CPU."""

import contextlib
from contextlib import AbstractContextManager

import torch

from dfpipe.errors import ConfigError, UsageError, choose


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
        raise UsageError(f"device {name!r} cannot be used on this machine: leave out --device, or use cpu") from error
    return device


def precision_of(device: torch.device, wanted: str = "auto") -> torch.dtype:
    """The type in which a network's layers compute.

    Args:
        device: Where.
        wanted: "auto" (bfloat16 on a GPU that has it, float16 on an older one, float32 elsewhere) or a key of `PRECISIONS`.

    Raises:
        ConfigError: Unknown, or not to be had on this device.
    """
    if wanted == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    dtype = choose(PRECISIONS, wanted, "train.precision")
    if dtype == torch.float16 and device.type == "cpu":
        raise ConfigError("train.precision=fp16 needs a GPU: use auto, or bf16")
    return dtype


def autocast(device: torch.device, dtype: torch.dtype | None = None) -> AbstractContextManager[None]:
    """Computes in lower precision where layers allow it.

    Args:
        device: Where.
        dtype: From `precision_of`; None = its choice for "auto".
    """
    dtype = dtype or precision_of(device)
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
