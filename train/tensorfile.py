"""safetensors files from outside: what their header claims is checked before any library reads them.

The format (github.com/huggingface/safetensors, "Format"): 8 bytes with the length N of the header, little-endian; N bytes
of JSON, tensor name to dtype, shape and data_offsets, with texts under `__metadata__`; then the data, without holes.
Nothing heavy is imported here, so that the child that checks a header starts quickly.
"""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfpipe.errors import MediaError, ModelFileError
from dfpipe.workers import isolated

MAX_HEADER_BYTES = 16_000_000  # a header is a few kB; a lying one must not be read into memory
MAX_TENSORS = 50_000  # the largest networks of timm have some 3,000, an ensemble of ten of them 30,000
MAX_DIMENSIONS = 8  # convolutions over space and time have five
DTYPE_BYTES = {  # those that networks are made of
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".joblib")
_PICKLE_HEADS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # torch's zip, and bare pickles


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file whose header is in order."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    _head: bytes = field(repr=False)
    _state: tuple[int, ...] = field(repr=False)  # of the file when its header was read

    def read(self) -> bytes:
        """The whole file, in memory: what was checked is what is loaded and hashed, whatever happens to the file.

        Raises:
            ModelFileError: It cannot be read, or has changed since its header was.
        """
        try:
            with self.path.open("rb") as file:
                whole = file.read(self._state[0] + 1)
                if _state_of(file.fileno()) == self._state and whole.startswith(self._head):
                    return whole
        except OSError as error:
            raise _unreadable(self.path, error) from error
        raise ModelFileError(f"{self.path} changed while it was read: run the same command again")


def open_tensors(path: Path, shipped: bool = False) -> TensorFile:
    """Reads and checks the header of a safetensors file.

    Args:
        path: The file.
        shipped: Whether it is part of this package. Every other file is checked in a child that can be killed, which
            takes some tenths of a second.

    Raises:
        ModelFileError: It is missing, no such file, or its header lies. Pickles are never opened.
    """
    if path.suffix.lower() in PICKLES:
        raise _is_pickle(path)
    head, state = _read_head(path)
    claim = (head[8:], state[0] - len(head))
    try:
        shapes, metadata = check_header(claim) if shipped else isolated(check_header, claim)
    except (ModelFileError, MediaError) as error:
        raise ModelFileError(
            f"{path} is damaged, or no model file ({error}): name a .safetensors file that 'dfpipe train' wrote"
        ) from error
    return TensorFile(path, shapes, metadata, head, state)


def _read_head(path: Path) -> tuple[bytes, tuple[int, ...]]:
    """Length and header as bytes, and the state of the file."""
    try:
        if not path.is_file():  # a pipe would never answer
            raise FileNotFoundError(0, "no such file" if not path.exists() else "not a regular file")
        with path.open("rb") as file:
            state = _state_of(file.fileno())
            start = file.read(9)
            if start.startswith(_PICKLE_HEADS):
                raise _is_pickle(path)
            (length,) = struct.unpack("<Q", start[:8]) if len(start) == 9 else (0,)
            if start[8:] == b"{" and 2 <= length <= min(MAX_HEADER_BYTES, state[0] - 8):
                return start + file.read(length - 1), state
    except OSError as error:
        raise _unreadable(path, error) from error
    raise ModelFileError(
        f"{path} is not a model file of dfpipe, or damaged: name a .safetensors file that 'dfpipe train' wrote"
    )


def _state_of(file: int) -> tuple[int, ...]:
    """Size and time of change, and which file it is."""
    stat = os.fstat(file)
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _unreadable(path: Path, error: OSError) -> ModelFileError:
    return ModelFileError(f"model file {path} cannot be read: {error.strerror}")


def _is_pickle(path: Path) -> ModelFileError:
    return ModelFileError(
        f"{path} is a pickle, which runs the code it holds when it is opened, so it never is: name a .safetensors file that "
        "'dfpipe train' wrote"
    )


# ---- in the child --------------------------------------------------------------------------------------------------


def check_header(claim: tuple[bytes, int]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Checks what a header says against itself and against the size of the data.

    Args:
        claim: The header's JSON, and how many bytes of data follow it.

    Returns:
        Shapes by tensor name, and the metadata.

    Raises:
        ModelFileError: What is wrong, without the name of the file.
    """
    text, size = claim
    tensors = _parsed(text)
    metadata = tensors.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFileError("its metadata are not texts")
    if len(tensors) > MAX_TENSORS:
        raise ModelFileError(f"it has {len(tensors)} tensors, more than {MAX_TENSORS}")
    places = sorted(_place(name, described) for name, described in tensors.items())
    end = 0
    for begin, after, name in places:
        if begin != end:
            raise ModelFileError(f"the data of tensor {name!r} overlap others or leave a hole")
        end = after
    if end != size:
        raise ModelFileError(f"its tensors take {end} bytes, the file holds {size}")
    return {name: tuple(described["shape"]) for name, described in tensors.items()}, metadata


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text.decode(), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"it is not plain JSON ({error})") from error
    if not isinstance(found, dict):
        raise ModelFileError("it is no JSON object")
    return found


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two equal names one reader takes the first and another the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _place(name: str, described: Any) -> tuple[int, int, str]:
    """Where the data of a tensor begin and end."""
    if not isinstance(described, dict) or set(described) != {"dtype", "shape", "data_offsets"}:
        raise ModelFileError(f"tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = described["dtype"], described["shape"], described["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ModelFileError(f"tensor {name!r} has a type that is not known: {dtype!r}")
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS:
        raise ModelFileError(f"tensor {name!r} has a shape that cannot be")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise ModelFileError(f"tensor {name!r} has no two offsets")
    count = DTYPE_BYTES[dtype]
    for side in shape:
        count *= side
    if offsets[1] - offsets[0] != count:
        raise ModelFileError(f"tensor {name!r} needs {count} bytes, its offsets give it {offsets[1] - offsets[0]}")
    return offsets[0], offsets[1], name


def _whole_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
