"""The manifest: the contract on disk between extraction and everything that reads faces.

A folder of extracted faces holds `manifest.parquet` (a row per crop), `inputs.parquet` (a row per input, with its state
and reason), `config.yaml` (as resolved) and `crops/`. The schema's version is in the parquet metadata.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from dfpipe.config import FacesConfig, from_mapping
from dfpipe.errors import ConfigError, DataError, SourceError
from dfpipe.files import atomic_file
from dfpipe.preprocess.groups import group_key
from dfpipe.preprocess.splits import check_leaks
from dfpipe.types import Label

VERSION = 1
MANIFEST, INPUTS, CONFIG = "manifest.parquet", "inputs.parquet", "config.yaml"
_VERSION_KEY = b"dfpipe_schema"

_SOURCE = [  # what both tables say of an input
    ("media_id", pa.string()),
    ("dataset", pa.string()),
    ("name", pa.string()),  # path inside the dataset
    ("label", pa.int8()),  # 0 real, 1 fake
    ("method", pa.string()),
    ("group", pa.string()),
    ("split", pa.string()),  # train, validation or test
    ("kind", pa.string()),  # video or image
    ("fold", pa.int8()),  # of cross-validation by group, from 0; null where none was asked for
]
CROPS_SCHEMA = pa.schema(
    [
        *_SOURCE,
        ("crop", pa.string()),  # path of the picture inside the folder
        ("frame_index", pa.int32()),
        ("time_s", pa.float64()),
        ("track", pa.int16()),  # person number within the clip
        ("x1", pa.float32()),  # face box, px of the full upright frame
        ("y1", pa.float32()),
        ("x2", pa.float32()),
        ("y2", pa.float32()),
        ("confidence", pa.float32()),
        ("landmarks", pa.list_(pa.float32())),  # x, y of eyes, nose, mouth corners; empty where unknown
        ("crop_scale", pa.float32()),  # side of the crop / longer side of the face box
        (
            "as_is",
            pa.bool_(),
        ),  # the picture was a face crop already: the box is the whole of it, the scale was measured
    ]
)
INPUTS_SCHEMA = pa.schema(
    [
        *_SOURCE,
        ("path", pa.string()),  # where it lay when it was read
        ("sha256", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("frames_wanted", pa.int32()),
        ("frames_decoded", pa.int32()),
        ("frames_with_face", pa.int32()),
        ("crops", pa.int32()),
        ("tracks_dropped", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("duration_s", pa.float64()),
        ("codec", pa.string()),
        ("reader", pa.string()),
        ("seconds", pa.float64()),
        ("bits_per_pixel", pa.float64()),  # of a clip's file, per pixel and frame
    ]
)
_ROWS_AT_ONCE = 50_000  # 100 MB of them wait to be written; a group of rows in the file
_OUTSIDE = r"^$|^/|(^|/)\.\.(/|$)"  # no name, or a path that leads out of its folder
_LATER = {"bits_per_pixel"}  # columns that folders extracted before lack: unknown there


class Columns(Mapping[str, list[Any]]):
    """Columns of equal length, each made when it is first asked for.

    Nobody needs all of them, and the landmarks alone take longer than all others.

    Args:
        makers: Name of a column to what makes it.
    """

    def __init__(self, makers: Mapping[str, Callable[[], list[Any]]]) -> None:
        self._makers = makers
        self._made: dict[str, list[Any]] = {}

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True)
class Manifest:
    """The crops of one folder, as columns of equal length."""

    folder: Path
    columns: Mapping[str, list[Any]]

    def __len__(self) -> int:
        return len(self.columns["crop"])

    def rows_of(self, split: str) -> list[int]:
        """Row numbers of one split."""
        return [i for i, s in enumerate(self.columns["split"]) if s == split]

    def path(self, row: int) -> Path:
        """Where the crop of a row lies."""
        return self.folder / str(self.columns["crop"][row])

    def take(self, rows: Sequence[int]) -> "Manifest":
        """Some of its crops, in the given order."""
        return Manifest(self.folder, Columns({name: partial(self._taken, name, rows) for name in self.columns}))

    def _taken(self, name: str, rows: Sequence[int]) -> list[Any]:
        column = self.columns[name]
        return [column[row] for row in rows]


class TableWriter:
    """Rows to a parquet file, some thousands in memory at a time."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self._schema = schema.with_metadata({_VERSION_KEY: str(VERSION).encode()})
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[Mapping[str, Any]] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """One row; keys that are no columns are left out, columns without a key are null."""
        self._rows.append(row)
        if len(self._rows) == _ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Writes the rest."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


@contextmanager
def table_writer(path: Path, schema: pa.Schema) -> Iterator[TableWriter]:
    """A table that appears when all rows are written, or not at all."""
    with atomic_file(path) as temporary:
        writer = TableWriter(temporary, schema)
        yield writer
        writer.close()


def write_table(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as parquet, whole or not at all."""
    with table_writer(path, schema) as table:
        for row in rows:
            table.add(row)


def read_manifest(folder: Path) -> Manifest:
    """Reads and checks the manifest of a folder of extracted faces.

    Raises:
        SourceError: There is none.
        DataError: It is damaged, of another version, or its labels or splits are impossible.
        LeakError: A group sits in two splits.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise SourceError(
            f"no {MANIFEST} in {folder}: run 'dfpipe extract --out {folder}' first, or name another folder"
        )
    table = _read_table(path, CROPS_SCHEMA)
    _check(path, table)
    return Manifest(folder, Columns({name: table.column(name).to_pylist for name in table.column_names}))


def read_inputs(folder: Path) -> list[dict[str, Any]]:
    """Reads the row per input of a folder of extracted faces.

    Raises:
        SourceError: There is none.
        DataError: It is damaged or of another version.
    """
    path = folder / INPUTS
    if not path.is_file():
        raise SourceError(f"no {INPUTS} in {folder}: run 'dfpipe extract --out {folder}' first, or name another folder")
    rows: list[dict[str, Any]] = _read_table(path, INPUTS_SCHEMA).to_pylist()
    return [{**dict.fromkeys(_LATER), **row} for row in rows]


def read_columns(path: Path, schema: pa.Schema, names: Sequence[str]) -> dict[str, list[Any]]:
    """Some columns of one of the two tables.

    Args:
        path: The table.
        schema: `CROPS_SCHEMA` or `INPUTS_SCHEMA`.
        names: Of the columns.

    Raises:
        DataError: It is damaged, or of another version.
    """
    table = _read_table(path, pa.schema([schema.field(name) for name in names]))
    return {name: table.column(name).to_pylist() for name in names}


def read_faces(folder: Path) -> FacesConfig:
    """How the faces of a folder were found and cut.

    Raises:
        DataError: Its config.yaml is missing or damaged.
    """
    path = folder / CONFIG
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))["preprocess"]["faces"]
        if not isinstance(values, dict):
            raise TypeError("no settings")
        return from_mapping(FacesConfig, values, "preprocess.faces.")
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is missing or damaged: run the same 'dfpipe extract' again") from error
    except ConfigError as error:
        raise DataError(f"{path} is damaged or of another version ({error}): extract again") from error


def _read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Reads a table of this version, with its columns in the types of `schema` and their bytes checked."""
    try:
        with path.open("rb") as file:  # pyarrow itself refuses names that are no UTF-8
            held = pq.ParquetFile(file)
            version = (held.schema_arrow.metadata or {}).get(_VERSION_KEY, b"none").decode()
            if version != str(VERSION):
                raise DataError(f"{path} has schema version {version}, this dfpipe reads {VERSION}: extract again")
            names = set(held.schema_arrow.names)
            if missing := [name for name in schema.names if name not in names | _LATER]:
                raise DataError(f"{path} lacks the columns {', '.join(missing)}: extract again")
            there = [column for column in schema if column.name in names]
            table = held.read([column.name for column in there])
        table = table.select([column.name for column in there]).cast(pa.schema(there))
        table.validate(full=True)  # texts that are no UTF-8, lists that reach out of their values
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: run the same 'dfpipe extract' again to write it anew ({error})") from error


def _check(path: Path, table: pa.Table) -> None:
    """Refuses what cannot be, by whole columns: row by row a million takes seven seconds."""
    labels, crops = table.column("label"), table.column("crop")
    possible = pa.array([None, *(int(label) for label in Label)], labels.type)
    _refuse(path, pc.invert(pc.is_in(labels, possible)), labels, "label {!r} is neither 0 (real) nor 1 (fake)")
    outside = pc.fill_null(pc.match_substring_regex(crops, _OUTSIDE), True)
    _refuse(path, outside, crops, "crop {!r} points outside the folder")
    sources = table.select(["dataset", "group", "split"])
    known = sources.group_by(sources.column_names).aggregate([]).to_pylist()
    check_leaks([group_key(row["dataset"], row["group"]) for row in known], [row["split"] for row in known])


def _refuse(path: Path, wrong: pa.ChunkedArray, column: pa.ChunkedArray, what: str) -> None:
    """Names the first row that is wrong."""
    row = pc.index(wrong, True).as_py()
    if row >= 0:
        raise DataError(f"{path}, row {row}: {what.format(column[row].as_py())}")
