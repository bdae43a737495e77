"""The state of a run between two moments: everything that decides how it goes on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from dfpipe.errors import DataError
from dfpipe.files import atomic_file

STATE = "state.pt"  # its name in every run folder; gone when the run has ended
VERSION = 1


@dataclass
class Place:
    """Where a run stands, and the best that it found."""

    stage: int = 0
    stage_epoch: int = 0  # finished epochs of the phase
    epoch: int = 0  # finished epochs of the run
    batch: int = 0  # finished batches of the epoch that is under way
    since_best: int = 0  # finished epochs of the phase without a better validation
    best_epoch: int = 0  # from 1; 0 = none yet
    best_value: list[float] = field(default_factory=list)
    best: dict[str, float | None] = field(default_factory=dict)  # validation metrics of the best epoch
    micro: int = 0  # crops that go through the network at once; less than a batch after a memory error
    seconds: float = 0.0  # of all sessions


def save_state(path: Path, place: Place, tensors: Mapping[str, Any]) -> None:
    """Writes the state, whole or not at all.

    Args:
        path: File.
        place: Where the run stands.
        tensors: State dicts, tensors, and plain values.
    """
    with atomic_file(path) as temporary:
        torch.save({"version": VERSION, "place": asdict(place), **tensors}, temporary)


def load_state(path: Path) -> tuple[Place, dict[str, Any]]:
    """Reads a state; only tensors and plain values are ever unpickled.

    Raises:
        DataError: Missing, damaged, or of another version.
    """
    if not path.is_file():
        raise DataError(f"{path.parent} holds no {STATE}: the run has ended, or never began; train anew")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        version = state.pop("version")
        place = Place(**state.pop("place"))
    except Exception as error:  # damaged files make torch raise kinds that have no base in common
        raise DataError(f"{path} is damaged ({type(error).__name__}): train anew") from error
    if version != VERSION:
        raise DataError(f"{path} was written by another version of dfpipe: train anew")
    return place, state
