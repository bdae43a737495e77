"""Crops in a few large tar files instead of millions of small ones: for shared disks and stores, and for streaming.

The layout is that of WebDataset: a sample is a picture and a JSON text of the same name, one after the other, and each
split has files of its own in a random order. The folder is one of extracted faces like any other: its manifest says in
which tar file, and where in it, each picture lies (`shards/train-000000.tar:512+18234`: offset and size in bytes).
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dfpipe.errors import DataError, UsageError
from dfpipe.files import atomic_file, locked, scratch_folder, sweep
from dfpipe.outbox import Outbox, stored_ledger
from dfpipe.preprocess.cropfiles import SHARDS, crop_bytes, located
from dfpipe.preprocess.manifest import CONFIG, INPUTS, MANIFEST, Manifest, read_manifest
from dfpipe.preprocess.mirror import source_of
from dfpipe.preprocess.splits import SPLITS
from dfpipe.store import Url, remove

PLAN = "plan.txt"  # a hash of what goes where: shards of another plan are written anew
_SENT_AHEAD = 2  # tar files that may wait on the disk on their way to a store
_OTHER = ""  # in the place of the digest: packed of other crops
_BLOCK = 512  # bytes: a header, and what contents are filled up to (POSIX ustar)
_TOLD = (
    *("label", "split", "fold", "dataset", "group", "method", "media_id", "frame_index", "time_s", "track"),
    *("x1", "y1", "x2", "y2", "confidence", "landmarks", "crop_scale", "as_is"),
)


@dataclass(frozen=True)
class Packed:
    """What was written."""

    crops: int
    shards: int
    bytes: int


@dataclass(frozen=True)
class _Sample:
    """One crop on its way into a tar file."""

    row: int
    path: str
    key: str
    size: int  # of the picture
    text: bytes  # what is told of it
    offset: int  # of the picture


def pack(data: Path, out: Path | Url, shard_mb: int = 256) -> Packed:
    """Writes the crops of a folder as tar files of bounded size to another folder, with its tables.

    Stopped, it goes on when started again: a tar file that is there is whole.

    Args:
        data: Folder of extracted faces.
        out: Output folder, here or in a store.
        shard_mb: Bound on the size of a tar file, in 10^6 bytes.

    Raises:
        SourceError: No extracted faces in `data`.
        DataError: A crop is missing or changes meanwhile.
        UsageError: `out` is `data` or holds something else, or `data` is packed already.
        ResourceError: The disk is full, or the store takes nothing; the tar files that are finished stay valid.
    """
    if (out.resolve() == data.resolve()) if isinstance(out, Path) else (source_of(data) == str(out)):
        raise UsageError("--out is the folder of the crops: choose another --out")
    manifest = read_manifest(data)
    shards = dict(_plan(manifest, shard_mb * 1_000_000))
    if isinstance(out, Url):
        return Packed(len(manifest), len(shards), _pack_to_store(data, out, shards))
    with locked(out):
        sweep(out, deep=True)
        _keep_or_clear(out, shards)
        for name, samples in shards.items():
            if not (out / name).is_file():
                _write(out / name, samples)
        _write_tables(data, out, shards)
    sizes = [(out / name).stat().st_size for name in shards]
    return Packed(len(manifest), len(shards), sum(sizes))


def _pack_to_store(data: Path, url: Url, shards: dict[str, list[_Sample]]) -> int:
    """The same in a store; a ledger there says which tar files are whole. Returns their bytes."""
    digest = _digest(shards)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        ledger = stack.enter_context(contextlib.closing(stored_ledger(url, folder)))
        known = ledger.fingerprints()
        ledger.check_kind("bytes", url)
        outbox = stack.enter_context(Outbox(url, folder, ledger, (INPUTS, CONFIG, MANIFEST), _SENT_AHEAD))
        if set(known.values()) - {digest, _OTHER}:  # nobody may read that any more, nor go on with it
            remove(url / MANIFEST)
            ledger.record_all((name, _OTHER, {"bytes": 0}) for name in known)
            outbox.settle()
        for name in known.keys() - shards.keys():
            remove(url / name)
        for name, samples in shards.items():
            if ledger.fingerprints().get(name) != digest:
                _write(folder / name, samples)
                ledger.record(name, digest, {"bytes": (folder / name).stat().st_size})
                outbox.send(folder / name)
        _write_tables(data, folder, shards)
        outbox.publish()
        return sum(row["bytes"] for name, row in ledger.rows() if name in shards)


def _plan(manifest: Manifest, most: int) -> Iterator[tuple[str, list[_Sample]]]:
    """Which crops go to which tar file: known before any is written."""
    for split in SPLITS:
        number, end = 0, 0
        samples: list[_Sample] = []
        for row in sorted(manifest.rows_of(split), key=lambda row: _mixed(manifest.columns["crop"][row])):
            sample = _sample(manifest, row, end)
            after = sample.offset + _padded(sample.size) + _BLOCK + _padded(len(sample.text))
            if samples and after > most:
                yield f"{SHARDS}/{split}-{number:06d}.tar", samples
                number, samples, end = number + 1, [], 0
                sample = _sample(manifest, row, end)
                after = sample.offset + _padded(sample.size) + _BLOCK + _padded(len(sample.text))
            samples.append(sample)
            end = after
        if samples:
            yield f"{SHARDS}/{split}-{number:06d}.tar", samples


def _mixed(crop: str) -> bytes:
    """An order without order, the same on every machine: whoever streams reads neighbours together."""
    return hashlib.sha256(crop.encode()).digest()


def _sample(manifest: Manifest, row: int, start: int) -> _Sample:
    path = str(manifest.path(row))
    if located(path)[2] is not None:
        raise UsageError(f"{manifest.folder} is packed already: name the folder of its crops")
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise DataError(f"crop {path} is missing: run the same 'dfpipe extract' again") from error
    place = Path(str(manifest.columns["crop"][row]))
    told = {name: manifest.columns[name][row] for name in _TOLD if name in manifest.columns}
    return _Sample(row, path, f"{place.parent.name}_{place.stem}", size, json.dumps(told).encode(), start + _BLOCK)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _keep_or_clear(out: Path, shards: dict[str, list[_Sample]]) -> None:
    """Removes what was packed of other crops."""
    digest, plan = _digest(shards), out / PLAN
    if plan.is_file() and plan.read_text(encoding="utf-8") == digest:
        return
    (out / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(out / SHARDS, ignore_errors=True)
    with atomic_file(plan) as temporary:
        temporary.write_text(digest, encoding="utf-8")


def _digest(shards: dict[str, list[_Sample]]) -> str:
    """Another text where other crops go to other places."""
    told = repr([(name, [(s.key, s.size, s.text) for s in samples]) for name, samples in shards.items()])
    return hashlib.sha256(told.encode()).hexdigest()


def _write(path: Path, samples: list[_Sample]) -> None:
    with atomic_file(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            picture = crop_bytes(sample.path)
            if len(picture) != sample.size:
                raise DataError(f"crop {sample.path} was changed meanwhile: run the same command again")
            for suffix, content in ((Path(sample.path).suffix, picture), (".json", sample.text)):
                entry = tarfile.TarInfo(sample.key + suffix)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def _write_tables(data: Path, out: Path, shards: dict[str, list[_Sample]]) -> None:
    """The tables of the folder, with the new places of the crops."""
    for name in (INPUTS, CONFIG):
        with atomic_file(out / name) as temporary:
            shutil.copyfile(data / name, temporary)
    place_of: dict[int, Any] = {s.row: f"{n}:{s.offset}+{s.size}" for n, samples in shards.items() for s in samples}
    table = pq.read_table(data / MANIFEST)
    column = table.schema.get_field_index("crop")
    places = pa.array([place_of[row] for row in range(len(table))], pa.string())
    with atomic_file(out / MANIFEST) as temporary:
        pq.write_table(table.set_column(column, table.schema.field("crop"), places), temporary, compression="zstd")
