"""The state of a run between two moments: everything that decides how it goes on.

The file begins with a line, `dfpipe state 2 ` and the SHA-256 of all that follows it in hexadecimal; what follows is what
torch.save writes. It is compared before anything is unpickled, so that a damaged state is found as such. The state before
the newest is kept beside it, to go on from if the newest is damaged.
"""

import hashlib
import io
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from dfpipe.errors import DataError, ResourceError
from dfpipe.files import atomic_file

STATE = "state.pt"  # its name in every run folder; gone when the run has ended
PREVIOUS = "state.previous.pt"
VERSION = 2  # 1 had no checksum
_NO_DIGEST = "0" * 64

log = logging.getLogger(__name__)


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


def save_state(folder: Path, place: Place, tensors: Mapping[str, Any]) -> None:
    """Writes the state of a run, whole or not at all, and keeps the one before it.

    Args:
        folder: Of the run.
        place: Where the run stands.
        tensors: State dicts, tensors, and plain values.

    Raises:
        ResourceError: The disk is full; the states that were there are intact.
    """
    with atomic_file(folder / STATE) as temporary:
        with temporary.open("w+b") as file:
            start = file.write(_head(_NO_DIGEST))
            try:
                torch.save({"place": asdict(place), **tensors}, file)
            except RuntimeError as error:  # what its writer in C++ makes of a full disk
                raise ResourceError(
                    f"{folder / STATE} cannot be written: free disk space, and run the same command again"
                ) from error
            file.seek(start)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            file.write(_head(digest))
            file.flush()
            os.fsync(file.fileno())  # a full disk must show before the states that are there are moved
        if (folder / STATE).is_file():
            (folder / STATE).replace(folder / PREVIOUS)


def has_state(folder: Path) -> bool:
    """Whether a run can be gone on with."""
    return any((folder / name).is_file() for name in (STATE, PREVIOUS))


def forget_state(folder: Path) -> None:
    """Removes the state of a run that has ended."""
    for name in (STATE, PREVIOUS):
        (folder / name).unlink(missing_ok=True)


def load_state(folder: Path) -> tuple[Place, dict[str, Any]]:
    """Reads the state of a run, the one before it if the newest is damaged; only tensors and plain values are unpickled.

    Raises:
        DataError: Missing, damaged, or of another version.
    """
    if not has_state(folder):
        raise DataError(f"{folder} holds no {STATE}: the run has ended, or never began; train anew")
    try:
        return _read(folder / STATE)
    except DataError as error:
        if not (folder / PREVIOUS).is_file():
            raise DataError(f"{error}: train anew") from error
        log.warning("%s; going on from the state before it, %s", error, PREVIOUS)
    try:
        return _read(folder / PREVIOUS)
    except DataError as error:
        raise DataError(f"{folder / STATE} is damaged, and {error}: train anew") from error


def _head(digest: str) -> bytes:
    return f"dfpipe state {VERSION} {digest}\n".encode()


def _read(path: Path) -> tuple[Place, dict[str, Any]]:
    try:
        with path.open("rb") as file:
            head, payload = file.read(len(_head(_NO_DIGEST))), file.read()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    if not head.startswith(_head("").rstrip()):
        raise DataError(f"{path} is damaged, or was written by another version of dfpipe")
    if head != _head(hashlib.sha256(payload).hexdigest()):
        raise DataError(f"{path} is damaged: its checksum is wrong")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        return Place(**state.pop("place")), state
    except Exception as error:  # damaged files make torch raise kinds that have no base in common
        raise DataError(f"{path} is damaged: its content cannot be read") from error
