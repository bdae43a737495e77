"""What lists say: the JSON files of publishers, and the table that a user names.

Lists come from strangers: a name in one can never lead out of the folder that was scanned, except in a table that the
user names by hand.
"""

import csv
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dfpipe.errors import SourceError
from dfpipe.preprocess.groups import default_group
from dfpipe.preprocess.tree import SUFFIXES, Found, some
from dfpipe.store import Url, place
from dfpipe.types import Label, MediaItem, Origin

MAX_LIST_BYTES = 1 << 29  # DeepfakeBench's largest list, all of FaceForensics++ with masks, has some 10^8 bytes
LABELS = {  # names of folders
    "real": Label.REAL,
    "reals": Label.REAL,
    "original": Label.REAL,
    "training_real": Label.REAL,
    "fake": Label.FAKE,
    "fakes": Label.FAKE,
    "training_fake": Label.FAKE,
}
SPLITS = {  # names of folders, and what lists write in their column or key
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
ROW_LABELS = {"real": Label.REAL, "fake": Label.FAKE, "0": Label.REAL, "1": Label.FAKE}


def nearest(folders: Sequence[str], names: Mapping[str, Any]) -> Any:
    """What the innermost folder with a telling name says."""
    return next((names[f.lower()] for f in reversed(folders) if f.lower() in names), None)


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        SourceError: It cannot be read or is not JSON; the message names the place.
    """
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise SourceError(f"{path} is larger than {MAX_LIST_BYTES >> 20} MiB: no known list is; divide it")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not valid JSON ({error}): download it again") from error


def table(path: Path, kind: str) -> list[Found]:
    """A CSV or parquet list: columns path and label, perhaps group, split, method and dataset.

    Paths are relative to the list's folder; absolute ones, and places in stores, are taken as they are, for the list is the
    user's own word. What lies in a store is not looked for here: its items have an origin of no size.
    Rows of a CSV are counted as a spreadsheet does, with the header as row 1; rows of a parquet file from 1.

    Raises:
        SourceError: The file or one of its rows is not understood; the message names the row.
    """
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _parquet_rows(path)
    items: dict[str, list[MediaItem]] = defaultdict(list)
    missing: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, Label] = {}
    odd: dict[str, list[str]] = {
        "repeat an earlier row": [],
        f"are not {kind}, and left out": [],
        "contradict the name of the folder; the list was believed": [],
    }
    twice, other, contradicted = odd.values()
    for number, row in rows:
        item = _row_item(path, row, f"{path.name}, row {number}")
        if os.path.splitext(item.name)[1].lower() not in SUFFIXES[kind]:
            other.append(item.name)
        elif item.name in seen:
            if seen[item.name] is not item.label:
                raise SourceError(
                    f"{path.name}, row {number}: {item.name!r} stands above with the other label; remove one"
                )
            twice.append(item.name)
        elif item.origin is not None or os.path.isfile(item.path):
            items[item.dataset].append(item)
        else:
            missing[item.dataset].append(item.name)
        seen[item.name] = item.label or Label.REAL
        if nearest(item.name.split("/")[:-1], LABELS) not in (None, item.label):
            contradicted.append(item.name)
    notes = [f"{len(names)} rows of {path.name} {what}: {some(names)}" for what, names in odd.items() if names]
    datasets = sorted({*items, *missing}) or [path.stem]
    return [
        Found("list", d, kind, path, tuple(items[d]), tuple(missing[d]), tuple(notes if d == datasets[0] else ()))
        for d in datasets
    ]


def _row_item(path: Path, row: Mapping[str, Any], where: str) -> MediaItem:
    """One row, checked."""
    cell = {column: "" if value is None else str(value) for column, value in row.items()}
    cell = {column: text if column == "path" else text.strip() for column, text in cell.items()}
    if not cell["path"].strip() or "\0" in cell["path"]:
        raise SourceError(f"{where}: no path; fill it in or remove the row")
    label = ROW_LABELS.get(cell["label"].lower())
    if label is None:
        raise SourceError(f"{where}: label {cell['label']!r} is none of real, fake, 0 (real), 1 (fake)")
    split = SPLITS.get(cell.get("split", "").lower())
    if split is None and cell.get("split"):
        raise SourceError(f"{where}: split {cell['split']!r} is none of train, validation, test")
    spot = place(cell["path"])
    origin = Origin(spot.text, 0, "") if isinstance(spot, Url) else None
    name = os.path.normpath(str(spot).replace("\\", "/")) if origin is None else origin.url  # lists written on Windows
    if name in (".", ".."):
        raise SourceError(f"{where}: path {cell['path']!r} is a folder; name a file")
    return MediaItem(
        path.parent / name,
        name,
        cell.get("dataset") or path.stem,
        label,
        method=cell.get("method", ""),
        group=cell.get("group") or default_group(name, split),
        split=split,
        origin=origin,
    )


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:  # surrogateescape: a file name need not be UTF-8
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            _check_columns(path, [name.strip().lower() for name in reader.fieldnames or ()])
            for number, row in enumerate(reader, start=2):
                yield number, {str(k).strip().lower(): v for k, v in row.items() if k is not None}
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise SourceError(f"{path} is not a CSV file ({error}): save it again as CSV") from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    wanted = ("path", "label", "group", "split", "method", "dataset")  # others may hold whole pictures
    try:
        file = pq.ParquetFile(path)
        names = {name.lower(): name for name in file.schema_arrow.names}
        _check_columns(path, list(names))
        columns = {names[w]: w for w in wanted if w in names}
        rows = file.read(columns=list(columns)).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: text that is no UTF-8
        raise SourceError(f"{path} is not a parquet file or is damaged ({error}): write it again") from error
    for number, row in enumerate(rows, start=1):
        yield number, {columns[name]: value for name, value in row.items()}


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    absent = [name for name in ("path", "label") if name not in columns]
    if absent:
        raise SourceError(
            f"{path} has no column {' and no column '.join(absent)}; a list has the columns path and label, and perhaps "
            "group, split, method, dataset"
        )
