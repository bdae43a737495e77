"""Headers that lie, each made by changing one that is in order."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from dfpipe.errors import ModelFileError
from dfpipe.train.tensorfile import MAX_HEADER_BYTES, check_header, open_tensors

TENSORS = {"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.int64), "empty": np.ones((0, 5), np.float16)}
WHOLE = save(TENSORS, {"say": "hello"})
LENGTH = struct.unpack("<Q", WHOLE[:8])[0]
DATA = WHOLE[8 + LENGTH :]


def header() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(WHOLE[8 : 8 + LENGTH])
    return found


def packed(head: bytes, data: bytes = DATA) -> bytes:
    return struct.pack("<Q", len(head)) + head + data


def test_what_the_library_writes_is_in_order(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(WHOLE)
    for shipped in (True, False):
        file = open_tensors(path, shipped)
        assert file.shapes == {name: array.shape for name, array in TENSORS.items()}
        assert file.metadata == {"say": "hello"}
        assert file.read() == WHOLE


Change = Callable[[dict[str, Any]], Any]
LIES: dict[str, tuple[Change, str]] = {
    "type": (lambda h: h["a"].update(dtype="F128"), "type that is not known"),
    "type is no text": (lambda h: h["a"].update(dtype=["F32"]), "type that is not known"),
    "negative side": (lambda h: h["a"].update(shape=[-2, -3]), "shape that cannot be"),
    "fraction": (lambda h: h["a"].update(shape=[2.0, 3]), "shape that cannot be"),
    "true": (lambda h: h["a"].update(shape=[True, 6]), "shape that cannot be"),
    "huge side": (lambda h: h["a"].update(shape=[0, 1 << 63]), "shape that cannot be"),
    "nested": (lambda h: h["a"].update(shape=[[2], 3]), "shape that cannot be"),
    "dimensions": (lambda h: h["a"].update(shape=[1] * 9), "shape that cannot be"),
    "larger": (lambda h: h["a"].update(shape=[2, 4]), "needs 32 bytes, its offsets give it 24"),
    "smaller": (lambda h: h["a"].update(shape=[2, 2]), "needs 16 bytes, its offsets give it 24"),
    "backwards": (lambda h: h["a"].update(data_offsets=h["a"]["data_offsets"][::-1]), "offsets give it -24"),
    "below zero": (lambda h: h["a"].update(data_offsets=[-24, 0]), "no two offsets"),
    "three offsets": (lambda h: h["a"]["data_offsets"].append(99), "no two offsets"),
    "overlap": (lambda h: h["a"].update(data_offsets=[0, 24]), "overlap others or leave a hole"),
    "outside": (lambda h: h["a"].update(data_offsets=[1000, 1024]), "overlap others or leave a hole"),
    "a tensor less": (lambda h: h.pop("b"), "overlap others or leave a hole"),
    "the last one less": (lambda h: (h.pop("a"), h.pop("empty")), "its tensors take 32 bytes, the file holds 56"),
    "another key": (lambda h: h["a"].update(strides=[1]), "is not described by"),
    "a key less": (lambda h: h["a"].pop("dtype"), "is not described by"),
    "no description": (lambda h: h.update(a=7), "is not described by"),
    "metadata is a number": (lambda h: h["__metadata__"].update(say=7), "metadata are not texts"),
    "metadata is a list": (lambda h: h.update(__metadata__=[]), "metadata are not texts"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(lie: str) -> None:
    change, reason = LIES[lie]
    changed = header()
    change(changed)
    with pytest.raises(ModelFileError, match=reason):
        check_header((json.dumps(changed).encode(), len(DATA)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a":' * 100_000, "not plain JSON"),
        (b"{" + b'"a": 1, ' * 2 + b'"b": 2}', "stands there twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not plain JSON"),
        (b'{"\xff": 1}', "not plain JSON"),
        (b"{}{}", "not plain JSON"),
        (json.dumps({str(i): 0 for i in range(50_001)}).encode(), "50001 tensors"),
    ],
)
def test_a_header_that_is_no_table_of_tensors_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(ModelFileError, match=reason):
        check_header((text, 0))


def test_bytes_after_the_last_tensor_are_refused_by_the_child_too(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(WHOLE + b"more")
    with pytest.raises(ModelFileError, match=r"is damaged.* tensors take 56 bytes, the file holds 60"):
        open_tensors(path)


def test_only_as_much_is_read_as_a_header_may_hold(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for length in (0, 1, MAX_HEADER_BYTES + 1, 1 << 40, (1 << 64) - 1):
        with path.open("wb") as file:
            file.write(struct.pack("<Q", length) + b"{")
            file.truncate(MAX_HEADER_BYTES * 10)
        with pytest.raises(ModelFileError, match="is not a model file"):
            open_tensors(path, shipped=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="not a regular file"):
        open_tensors(tmp_path / "m.safetensors")
