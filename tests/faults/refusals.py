"""What is refused when it is read: manifests, lists, ledgers, model files, checkpoints, folders that cannot be written."""

import contextlib
import functools
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from bench import Facts, Row, Skip, temporaries
from processruns import Shared, config, reports

from dfpipe.errors import DfpipeError
from dfpipe.files import locked
from dfpipe.infer import detector as detectors
from dfpipe.infer.inputs import Upload, collect
from dfpipe.infer.judging import Options, judge_into
from dfpipe.ledger import Ledger
from dfpipe.preprocess.extract import extract
from dfpipe.preprocess.manifest import CROPS_SCHEMA, MANIFEST, read_manifest
from dfpipe.preprocess.sources import scan
from dfpipe.train.checkpoint import STATE, load_state
from dfpipe.train.modelfile import load_model

_patching = threading.Lock()
Change = Callable[[list[dict[str, Any]]], object]


def refused(call: Callable[[], object]) -> Facts:
    """What the command line would make of a call: its exit code and the line that it prints."""
    try:
        call()
    except DfpipeError as error:
        return {"exit": error.exit_code, "told": str(error), "lines": str(error).count("\n") + 1}
    except Exception as error:
        return {"exit": f"traceback of {type(error).__name__}", "told": str(error)}
    return {"exit": 0, "told": ""}


# ---- manifests, lists, ledgers ---------------------------------------------------------------------------------------


def changed_manifest(change: Callable[[Path], object], shared: Shared, here: Path) -> Facts:
    """A manifest that was changed, read as training does."""
    shutil.copy(shared.faces / MANIFEST, here / MANIFEST)
    change(here / MANIFEST)
    return refused(lambda: read_manifest(here))


def cut_in_half(path: Path) -> None:
    """Loses its end."""
    os.truncate(path, path.stat().st_size // 2)


def other_rows(change: Change, path: Path) -> None:
    """Rows that were changed."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=CROPS_SCHEMA.with_metadata(table.schema.metadata)), path)


def other_version(path: Path) -> None:
    """Written by another version."""
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"dfpipe_schema": b"0"}), path)


def lacking_column(path: Path) -> None:
    """Without its labels."""
    pq.write_table(pq.read_table(path).drop_columns(["label"]), path)


def leaking(rows: list[dict[str, Any]]) -> None:
    """One source in two splits."""
    first = rows[0]
    for row in rows:
        if row["group"] == first["group"] and row["media_id"] != first["media_id"]:
            row["split"] = "test" if first["split"] == "train" else "train"


def listed(text: bytes, shared: Shared, here: Path) -> Facts:
    """A table of clips that a user names."""
    table = here / "list.csv"
    shutil.copy(shared.clips / "real" / "0.mp4", here / "a.mp4")
    shutil.copy(shared.clips / "fake" / "0.mp4", here / "b.mp4")
    table.write_bytes(text)
    found: list[Any] = []
    facts = refused(lambda: found.extend(scan(table, "videos")))
    return {**facts, "items": sum(len(source.items) for source in found)}


def damaged_ledger(data: bytes | None, shared: Shared, here: Path) -> Facts:
    """A ledger that is something else, or of another version."""
    path = here / "ledger.sqlite"
    if data is None:
        import sqlite3

        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version=99")
    else:
        path.write_bytes(data)
    return refused(lambda: Ledger(path))


# ---- model files -----------------------------------------------------------------------------------------------------


def model_file(change: Callable[[bytes], bytes], shared: Shared, here: Path) -> Facts:
    """A model file that was changed."""
    path = here / "model.safetensors"
    path.write_bytes(change((shared.trained / "model.safetensors").read_bytes()))
    return refused(lambda: load_model(path))


def with_header(change: Callable[[dict[str, Any]], object], data: bytes) -> bytes:
    """The same weights under another header."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def with_card(change: Callable[[dict[str, Any]], object], data: bytes) -> bytes:
    """The same weights under another description."""

    def rewrite(header: dict[str, Any]) -> None:
        card = json.loads(header["__metadata__"]["dfpipe"])
        change(card)
        header["__metadata__"]["dfpipe"] = json.dumps(card)

    return with_header(rewrite, data)


def overlapping(header: dict[str, Any]) -> None:
    """Every tensor at the place of the first."""
    tensors = [value for name, value in header.items() if name != "__metadata__"]
    for tensor in tensors:
        tensor["data_offsets"] = tensors[0]["data_offsets"]


def other_shape(header: dict[str, Any]) -> None:
    """A tensor of the same size and another shape."""
    name = next(n for n, v in header.items() if n != "__metadata__" and len(v["shape"]) > 1)
    header[name]["shape"] = [header[name]["shape"][0] * header[name]["shape"][1], 1, *header[name]["shape"][2:]]


def huge_tensor(header: dict[str, Any]) -> None:
    """A tensor of 10^15 numbers."""
    name = next(n for n in header if n != "__metadata__")
    header[name]["shape"] = [10**15]


def not_numbers(data: bytes) -> bytes:
    """Weights that are all NaN."""
    (length,) = struct.unpack("<Q", data[:8])
    return data[: 8 + length] + b"\xff" * (len(data) - 8 - length)


class Touch:
    """What, unpickled, touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def hostile_pickle(how: str, shared: Shared, here: Path) -> Facts:
    """A pickle that touches a file when it is loaded, under the names of a model and of a checkpoint."""
    touched = here / "touched"
    if how == "checkpoint":
        (here / STATE).write_bytes(pickle.dumps({"version": 1, "place": Touch(touched)}))
        facts = refused(lambda: load_state(here))
    else:
        path = here / how
        if how.endswith(".pt"):
            torch.save({"weights": Touch(touched)}, path)
        else:
            path.write_bytes(pickle.dumps(Touch(touched)))
        facts = refused(lambda: load_model(path))
    return {**facts, "touched": touched.exists()}


def broken_checkpoint(how: str, shared: Shared, here: Path) -> Facts:
    """A checkpoint that lost its end, or holds what it should not."""
    (here / STATE).write_bytes({"empty": b"", "text": b"no state\n" * 100, "zip head": b"PK\x03\x04" + bytes(500)}[how])
    return refused(lambda: load_state(here))


# ---- folders and files that change -----------------------------------------------------------------------------------


def judged(shared: Shared, paths: list[Path], out: Path) -> list[dict[str, Any]]:
    """The verdicts on some files, in this process, and whether each is `fresh` or of an earlier run."""
    found = judge_into(shared.detector, map(Upload, paths), out, Options(engine="serial"))
    return [{**told.line, "fresh": told.fresh} for told in found]


def file_for_folder(shared: Shared, here: Path) -> Facts:
    """A file stands where the folder of verdicts should be."""
    out = here / "out"
    out.write_bytes(b"mine")
    facts = refused(lambda: judged(shared, [shared.stills / "00.jpg"], out))
    return {**facts, "file intact": out.read_bytes() == b"mine"}


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that nobody may write, not even root: a file system mounted so.

    Raises:
        Skip: Mounting is not allowed here.
    """
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(folder)]
    if (
        os.geteuid() != 0
        or not shutil.which("mount")
        or subprocess.run(words, capture_output=True, check=False).returncode
    ):
        raise Skip("mounting a read-only file system is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def read_only_out(command: str, shared: Shared, here: Path) -> Facts:
    """The output folder cannot be written."""
    out = here / "ro"
    with read_only(out):
        if command == "extract":
            return refused(lambda: extract([shared.clips], [], out / "faces", config(), engine="serial"))
        return refused(lambda: judged(shared, [shared.stills / "00.jpg"], out))


def two_at_once(command: str, shared: Shared, here: Path) -> Facts:
    """A second run on a folder that another one holds; then the first has ended."""
    out = here / "out"

    def second() -> object:
        if command == "extract":
            return extract([shared.clips], [], out, config(), engine="serial", limit=1)
        return judged(shared, [shared.stills / "00.jpg"], out)

    with locked(out):
        facts = refused(second)
    return {**facts, "afterwards": refused(second)["exit"]}


def vanished(shared: Shared, here: Path) -> Facts:
    """A file is removed after it was listed."""
    shutil.copytree(shared.stills, here / "in")
    uploads = collect([here / "in"]).uploads
    (here / "in" / "05.jpg").unlink()
    told = judged(shared, [upload.path for upload in uploads], here / "out")
    states = {Path(line["path"]).name: line["state"] for line in told}
    return {"lines": len(told), "state": states.pop("05.jpg"), "others": sorted(set(states.values()))}


def changed_while_judged(how: str, shared: Shared, here: Path) -> Facts:
    """A file is replaced, or grows, between the moment when it is taken and when it is read; then all is run again."""
    path, usual = here / "a.jpg", detectors.look_task
    shutil.copy(shared.stills / "00.jpg", path)

    def late(job: Any) -> Any:
        if job.upload.path != path:  # of a row beside this one
            return usual(job)
        if how == "replaced":
            path.write_bytes((shared.stills / "07.jpg").read_bytes())
        else:
            path.write_bytes(path.read_bytes() + b"more")
        return usual(job)

    with _patching, mock.patch.object(detectors, "look_task", late):
        (first,) = judged(shared, [path], here / "out")
    (second,) = judged(shared, [path], here / "out")
    (fresh,) = judged(shared, [path], here / "fresh")
    return {
        "verdict is of one content": first["sha256"] == fresh["sha256"] and first["scores"] == fresh["scores"],
        "judged again": second["fresh"],
        "whole reports": reports(here / "out"),
        "temporary files": temporaries(here / "out"),
    }


# ---- rows ------------------------------------------------------------------------------------------------------------


def _label_seven(rows: list[dict[str, Any]]) -> None:
    rows[0]["label"] = 7


def _outside(rows: list[dict[str, Any]]) -> None:
    rows[0]["crop"] = "../../etc/passwd"


def _data_refused(told: str, code: int = 2) -> Facts:
    return {"exit": code, "told": re.compile(told), "lines": 1}


MANIFESTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut in half": (cut_in_half, "damaged"),
    "text": (lambda path: path.write_bytes(b"no parquet"), "damaged"),
    "empty file": (lambda path: path.write_bytes(b""), "damaged"),
    "missing column": (lacking_column, "lacks the columns label"),
    "older version": (other_version, "version"),
    "label 7": (functools.partial(other_rows, _label_seven), "row 0: label 7"),
    "crop outside of the folder": (functools.partial(other_rows, _outside), "outside"),
    "source in two splits": (functools.partial(other_rows, leaking), "split"),
}
LISTS: dict[str, tuple[bytes, Facts]] = {
    "BOM and CRLF": (b"\xef\xbb\xbfpath,label\r\na.mp4,real\r\nb.mp4,fake\r\n", {"exit": 0, "items": 2}),
    "missing column": (b"path,klass\na.mp4,real\n", _data_refused("label")),
    "label typo": (b"path,label\na.mp4,real\nb.mp4,fkae\n", _data_refused("fkae|row|line")),
    "name twice": (b"path,label\na.mp4,real\na.mp4,fake\n", _data_refused("a.mp4")),
    "not text": (bytes(range(256)) * 40, _data_refused("list.csv")),
    "formula": (b"path,label,method\na.mp4,real,=1+1\nb.mp4,fake,x\n", {"exit": 0, "items": 2}),
}
MODELS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut in half": (lambda data: data[: len(data) // 2], ""),
    "empty": (lambda data: b"", ""),
    "header of 2^40 bytes": (lambda data: struct.pack("<Q", 2**40) + data[8:], ""),
    "header of 2^64 - 1 bytes": (lambda data: b"\xff" * 8 + data[8:], ""),
    "header nested 100,000 deep": (
        lambda data: struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000,
        "",
    ),
    "header that is no JSON": (lambda data: data[:8] + b"{" + b"\xff" * 50 + data[59:], ""),
    "other shape": (functools.partial(with_header, other_shape), ""),
    "tensor of 10^15 numbers": (functools.partial(with_header, huge_tensor), ""),
    "overlapping tensors": (functools.partial(with_header, overlapping), ""),
    "no description": (functools.partial(with_header, lambda header: header.pop("__metadata__")), "dfpipe|metadata"),
    "weights that are no numbers": (not_numbers, "number"),
    "unknown architecture": (
        functools.partial(with_card, lambda card: card.update(architecture="hf-hub:evil/model")),
        "",
    ),
    "other architecture": (functools.partial(with_card, lambda card: card.update(architecture="resnet18")), ""),
    "older schema": (functools.partial(with_card, lambda card: card.update(schema=1)), "schema"),
    "picture side of 10^9 px": (functools.partial(with_card, lambda card: card.update(image_size=10**9)), ""),
    "threshold outside of 0..1": (functools.partial(with_card, lambda card: card.update(threshold=7)), ""),
}


def refusal_rows(shared: Shared) -> list[Row]:
    """A row for each."""

    def row(name: str, fault: str, expected: Facts, scenario: Callable[..., Facts], *first: Any) -> Row:
        return Row(name, fault, expected, functools.partial(scenario, *first, shared))

    rows = [
        row(f"manifest: {name}", "read by training", _data_refused(told), changed_manifest, change)
        for name, (change, told) in MANIFESTS.items()
    ]
    rows += [row(f"list: {name}", "a CSV of clips", expected, listed, text) for name, (text, expected) in LISTS.items()]
    rows += [
        row("ledger: text", "in place of the database", _data_refused("damaged"), damaged_ledger, b"no database" * 100),
        row("ledger: newer version", "user_version 99", _data_refused("version"), damaged_ledger, None),
    ]
    rows += [
        row(f"model file: {name}", "loaded for inference", _data_refused(told, 4), model_file, change)
        for name, (change, told) in MODELS.items()
    ]
    rows += [
        row(f"pickle as {how}", "it would touch a file", {"exit": code, "touched": False}, hostile_pickle, how)
        for how, code in (("model.pt", 4), ("model.safetensors", 4), ("checkpoint", 2))
    ]
    rows += [
        row(f"checkpoint: {how}", "resumed", _data_refused("damaged"), broken_checkpoint, how)
        for how in ("empty", "text", "zip head")
    ]
    rows += [
        row(
            "file in place of the output folder",
            "infer --out FILE",
            {**_data_refused("write|file"), "file intact": True},
            file_for_folder,
        ),
        *(
            row(
                f"read-only output folder: {command}",
                "a file system mounted read-only",
                _data_refused("Read-only"),
                read_only_out,
                command,
            )
            for command in ("extract", "infer")
        ),
        *(
            row(
                f"two runs at once: {command}",
                "on one --out; then the first ends",
                {**_data_refused("another run"), "afterwards": 0},
                two_at_once,
                command,
            )
            for command in ("extract", "infer")
        ),
        row(
            "input that vanishes",
            "removed after it was listed",
            {"lines": 12, "state": "unreadable", "others": ["ok"]},
            vanished,
        ),
        *(
            row(
                f"input that is {how}",
                "between listing and reading; then run again",
                {
                    "verdict is of one content": True,
                    "judged again": True,
                    "whole reports": "1 of 1",
                    "temporary files": [],
                },
                changed_while_judged,
                how,
            )
            for how in ("replaced", "growing")
        ),
    ]
    return rows
