"""What is listed: the files below a folder, the entries of an archive, the rows of a table, the frames of a JSON list.

A folder is walked once; the recognisers in `layouts` look things up in the listing. Lists come from strangers: a name in
one can never lead out of the folder that was scanned, except in a table that the user names by hand.
"""

import csv
import io
import json
import os
import re
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dfpipe.errors import SourceError
from dfpipe.preprocess.containers import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from dfpipe.types import Label, MediaItem

SUFFIXES = {"videos": VIDEO_SUFFIXES, "images": IMAGE_SUFFIXES}
MAX_LIST_BYTES = 1 << 29  # DeepfakeBench's largest list, all of FaceForensics++ with masks, has some 10^8 bytes
MAX_ZIP_ENTRIES = (
    2_000_000  # ten times the largest set of stills in use (190,000); each entry costs about 1 kB of memory
)

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
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, ValueError, EOFError, RuntimeError)  # what zipfile
# raises on damage, on a password (RuntimeError) and on an unknown compression (NotImplementedError, a RuntimeError)
ROW_LABELS = {"real": Label.REAL, "fake": Label.FAKE, "0": Label.REAL, "1": Label.FAKE}


@dataclass(frozen=True)
class Found:
    """One collection as a recogniser sees it."""

    layout: str
    dataset: str
    kind: str  # "videos" or "images": what the files on disk are
    base: Path  # the folder, archive or list that holds it
    items: tuple[MediaItem, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    claimed: frozenset[str] = frozenset()  # files of the tree that are spoken for, used or not


# ---- the files below a folder --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tree:
    """The regular files below a folder, by their path from it with forward slashes."""

    root: Path
    suffixes: frozenset[str]
    files: frozenset[str]
    notes: tuple[str, ...] = ()
    claimed: frozenset[str] = field(default=frozenset())

    @cached_property
    def media(self) -> tuple[str, ...]:
        """The clips or stills that no layout has claimed yet, in a fixed order."""
        free = (f for f in self.files - self.claimed if os.path.splitext(f)[1].lower() in self.suffixes)
        return tuple(sorted(free, key=lambda f: f.split("/")))

    @cached_property
    def folders(self) -> Mapping[str, Sequence[str]]:
        """Folder to the unclaimed clips or stills directly in it."""
        found: dict[str, list[str]] = defaultdict(list)
        for file in self.media:
            found[parent_of(file)].append(file)
        return found

    def named(self, name: str) -> list[str]:
        """The files of one name, wherever they lie."""
        return sorted(f for f in self.files if f.endswith(name) and (f == name or f[-len(name) - 1] == "/"))

    def ending(self, suffix: str) -> list[str]:
        """The files of one suffix, wherever they lie."""
        return sorted(f for f in self.files if f.lower().endswith(suffix))

    @cached_property
    def places(self) -> frozenset[str]:
        """All folders that hold files."""
        return frozenset(map(parent_of, self.files))

    def without(self, claimed: Iterable[str]) -> "Tree":
        """The same tree after a layout has claimed its files."""
        return replace(self, claimed=self.claimed.union(claimed))


def walk(root: Path, kind: str) -> Tree:
    """Lists a folder in one pass. Links to folders are not followed; pipes and sockets are no files."""
    files: list[str] = []
    unreadable: list[str] = []
    links: list[str] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = joined(folder, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif _is_file(entry):
                        files.append(path)
                    elif entry.is_symlink() and os.path.isdir(entry.path):
                        links.append(path)
        except OSError as error:
            unreadable.append(f"{folder or root} ({error.strerror})")
    notes = [f"{len(unreadable)} folders cannot be read: {some(unreadable)}"] if unreadable else []
    notes += [f"{len(links)} links to folders are not followed: {some(sorted(links))}"] if links else []
    return Tree(root, SUFFIXES[kind], frozenset(files), tuple(notes))


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def joined(*parts: str) -> str:
    """A path with forward slashes; empty parts do not count."""
    return "/".join(part for part in parts if part)


def parent_of(path: str) -> str:
    """The folder part, "" at the top."""
    return path.rpartition("/")[0]


def stem_of(path: str) -> str:
    """The file's name without folder and suffix."""
    return os.path.splitext(path.rpartition("/")[2])[0]


def inside(path: str) -> bool:
    """Whether a name from a list stays in the folder that it is relative to."""
    return bool(path) and not re.match(r"[A-Za-z]:|/", path) and ".." not in path.split("/") and "\0" not in path


def some(names: Sequence[str]) -> str:
    """The first few names, and how many others there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


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


# ---- groups and splits ---------------------------------------------------------------------------------------------


def nearest(folders: Sequence[str], names: Mapping[str, Any]) -> Any:
    """What the innermost folder with a telling name says."""
    return next((names[f.lower()] for f in reversed(folders) if f.lower() in names), None)


def default_group(name: str, split: str | None) -> str:
    """Without a list, a fake often bears the name of its real; across a publisher's splits a name proves nothing."""
    return name if split else stem_of(name)


def whole_groups(items: Iterable[MediaItem]) -> tuple[list[MediaItem], list[str]]:
    """Keeps a publisher's split from cutting through a source: a group goes whole to the strictest split of its members.

    Returns:
        The items, and a note that says how many were moved.
    """
    items = list(items)
    strictness = {"train": 0, "validation": 1, "test": 2}
    split_of: dict[str, str] = {}
    for item in items:
        if item.split and strictness[item.split] >= strictness[split_of.get(item.group, "train")]:
            split_of[item.group] = item.split
    kept = [replace(item, split=split_of.get(item.group)) for item in items]
    moved = [now.name for before, now in zip(items, kept, strict=True) if before.split != now.split]
    note = (
        f"{len(moved)} inputs share their original with inputs of a stricter split of the publisher's and were moved there, "
        f"so that no source is in two splits; figures on these splits are not the published ones: {some(moved)}"
    )
    return kept, [note] if moved else []


# ---- stills and clips in labelled folders, on disk or in an archive --------------------------------------------------


@dataclass
class Pictured:
    """What the `metadata.csv` files say of stills: their original, and a label to compare with the folder's."""

    originals: dict[str, str] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def read(self, lines: Iterable[str], folder: str, what: str) -> None:
        """Reads one table with the columns image and original, and perhaps label; any other table is passed over."""
        try:
            table = csv.DictReader(lines)
            if not {"image", "original"} <= set(table.fieldnames or ()):
                return
            for row in table:
                image = joined(folder, row["image"] or "")
                if row["original"]:
                    self.originals[image] = stem_of(row["original"])
                label = ROW_LABELS.get(str(row.get("label")).strip().lower())
                if label is not None:
                    self.labels[image] = label
        except (csv.Error, *ZIP_ERRORS) as error:
            self.notes.append(f"{what} cannot be read to its end ({error}): some originals are unknown")


def labelled(files: Iterable[str], above: Sequence[str], say: Pictured) -> Iterator[tuple[str, Label, str | None, str]]:
    """The files that lie in a folder named real or fake.

    Args:
        files: Paths with forward slashes.
        above: The folders over them.
        say: Collects contradictions.

    Yields:
        File, label, split, and the folder over the outermost one with a telling name: the collection's.
    """
    contradicted = []
    for file in files:
        folders = file.split("/")[:-1]
        label = nearest([*above, *folders], LABELS)
        if label is None:
            continue
        if say.labels.get(file, label) is not label:
            contradicted.append(file)
        telling = (i for i, f in enumerate(folders) if f.lower() in LABELS or f.lower() in SPLITS)
        yield file, label, nearest([*above, *folders], SPLITS), "/".join(folders[: next(telling, 0)])
    if contradicted:
        say.notes.append(
            f"{len(contradicted)} labels in metadata.csv contradict the folder, which was believed: {some(contradicted)}"
        )


def zip_archive(path: Path, kind: str, above: Sequence[str] = ()) -> list[Found]:
    """Stills in a zip archive; only its table of contents is read.

    Args:
        path: The archive.
        kind: "images".
        above: The folders that the archive lies in, which may say label or split.

    Raises:
        SourceError: The archive is damaged or too large, or clips are wanted of it.
    """
    if kind != "images":
        raise SourceError(
            f"{path}: clips in archives are not read; unpack it, or name it with --images if it holds stills"
        )
    say = Pictured()
    with open_zip(path) as archive:
        entries, refused = _entries(archive)
        for name, info in entries.items():
            if name.rpartition("/")[2] == "metadata.csv":
                say.read(_text_lines(archive, info), parent_of(name), f"{path}: {name}")
    stills = [name for name in entries if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]
    items = tuple(
        MediaItem(
            path,
            name,
            path.stem,
            label,
            group=say.originals.get(name) or default_group(name, split),
            split=split,
            members=(entries[name].filename,),
        )
        for name, label, split, _ in labelled(sorted(stills), [*above, path.stem], say)
    )
    notes = [f"{len(names)} entries of {path} are {why}: left out ({some(names)})" for why, names in refused.items()]
    if len(stills) > len(items):
        notes.append(f"{len(stills) - len(items)} images in {path} lie in no folder named real or fake: left out")
    return [Found("zip of stills", path.stem, "images", path, items, (), (*notes, *say.notes))]


def _text_lines(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[str]:
    if info.file_size > MAX_LIST_BYTES:
        raise ValueError(f"it is larger than {MAX_LIST_BYTES >> 20} MiB")
    with archive.open(info) as file:
        yield from io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")


def open_zip(path: Path) -> zipfile.ZipFile:
    """Opens an archive after looking at how much it claims to hold.

    Raises:
        SourceError: It is no zip archive, damaged, or has more than `MAX_ZIP_ENTRIES` entries.
    """
    try:
        claimed = _entry_count(path)
        if claimed <= MAX_ZIP_ENTRIES:
            archive = zipfile.ZipFile(path)
            claimed = len(archive.infolist())  # the claim may have been a lie
            if claimed <= MAX_ZIP_ENTRIES:
                return archive
            archive.close()
    except ZIP_ERRORS as error:
        raise SourceError(f"{path} is not a zip archive or is damaged ({error}): download it again") from error
    raise SourceError(f"{path} has {claimed} entries, more than {MAX_ZIP_ENTRIES}: unpack it")


def _entry_count(path: Path) -> int:
    """The number of entries as the end record states it (APPNOTE.TXT 4.3.14 and 4.3.16), before anything is loaded."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - 65_557 - 76))  # a comment has at most 65,535 bytes; 64-bit records come before
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile(f"no table of contents in the last {size - start} bytes")
    count: int = struct.unpack_from("<H", tail, end + 10)[0]
    large = tail.rfind(b"PK\x06\x06", 0, end)
    if count == 0xFFFF and large >= 0:
        count = struct.unpack_from("<Q", tail, large + 32)[0]
    return count


def _entries(archive: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], dict[str, list[str]]]:
    """Usable entries by name with forward slashes, and the others by reason."""
    found: dict[str, zipfile.ZipInfo] = {}
    refused: dict[str, list[str]] = defaultdict(list)
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")  # some Windows archivers write these
        if info.is_dir() or any(part.startswith(".") or part == "__MACOSX" for part in name.split("/") if part != ".."):
            continue  # hidden files are left alone, as on disk; __MACOSX holds the Finder's shadow copies
        if info.flag_bits & 1:
            refused["encrypted"].append(name)
        elif not inside(name):
            refused["outside of the archive"].append(name)
        elif name in found:
            refused["there twice"].append(name)
        else:
            found[name] = info
    return found, refused


# ---- a table that the user names -----------------------------------------------------------------------------------


def table(path: Path, kind: str) -> list[Found]:
    """A CSV or parquet list: columns path and label, perhaps group, split, method and dataset.

    Paths are relative to the list's folder; absolute ones are taken as they are, for the list is the user's own word.
    Rows of a CSV are counted as a spreadsheet does, with the header as row 1; rows of a parquet file from 1.

    Raises:
        SourceError: The file or one of its rows is not understood; the message names the row.
    """
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _parquet_rows(path)
    items: dict[str, list[MediaItem]] = defaultdict(list)
    missing: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, Label] = {}
    twice, other, contradicted = [], [], []
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
        elif os.path.isfile(item.path):
            items[item.dataset].append(item)
        else:
            missing[item.dataset].append(item.name)
        seen[item.name] = item.label or Label.REAL
        if nearest(item.name.split("/")[:-1], LABELS) not in (None, item.label):
            contradicted.append(item.name)
    notes = [
        f"{len(names)} rows of {path.name} {what}: {some(names)}"
        for what, names in (
            ("repeat an earlier row", twice),
            (f"are not {kind}, and left out", other),
            ("contradict the name of the folder; the list was believed", contradicted),
        )
        if names
    ]
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
    name = os.path.normpath(cell["path"].replace("\\", "/"))  # lists written on Windows
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
    except (pa.ArrowException, OSError) as error:
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


TABLES: dict[str, Callable[[Path, str], list[Found]]] = {".csv": table, ".parquet": table, ".zip": zip_archive}
