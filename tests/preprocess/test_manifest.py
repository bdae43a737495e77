from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfpipe.errors import DataError, LeakError, SourceError
from dfpipe.preprocess.manifest import (
    CONFIG,
    CROPS_SCHEMA,
    INPUTS,
    INPUTS_SCHEMA,
    MANIFEST,
    Columns,
    Manifest,
    read_faces,
    read_inputs,
    read_manifest,
    write_table,
)

ROW: dict[str, Any] = {
    "media_id": "m",
    "dataset": "d",
    "name": "a.mp4",
    "label": 1,
    "group": "g",
    "split": "train",
    "crop": "crops/m/0.jpg",
    "crop_scale": 1.3,
}


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    write_table(folder / MANIFEST, CROPS_SCHEMA, [{**ROW, **row} for row in rows])
    return folder


def test_round_trip(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, {}, {"split": "test", "group": "h", "landmarks": [1.0, 2.0]}))
    assert len(manifest) == 2
    assert manifest.rows_of("test") == [1]
    assert manifest.columns["landmarks"] == [None, [1.0, 2.0]]
    assert manifest.path(0) == tmp_path / "crops/m/0.jpg"


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="dfpipe extract"):
        read_manifest(tmp_path)
    with pytest.raises(SourceError, match="dfpipe extract"):
        read_inputs(tmp_path)


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"label": 2}, "row 1: label 2"),
        ({"crop": "/etc/passwd"}, "outside"),
        ({"crop": "../x.jpg"}, "outside"),
        ({"crop": "crops/../../x.jpg"}, "outside"),
        ({"crop": "crops/.."}, "outside"),
        ({"crop": ""}, "outside"),
        ({"crop": None}, "row 1: crop None"),
    ],
)
def test_impossible_rows_are_named(tmp_path: Path, row: dict[str, Any], part: str) -> None:
    with pytest.raises(DataError, match=part):
        read_manifest(write(tmp_path, {}, row))


def test_dots_in_names_lead_nowhere(tmp_path: Path) -> None:
    assert len(read_manifest(write(tmp_path, {"crop": "crops/a..b/..c/d...jpg"}, {"label": None}))) == 2


def test_a_leaking_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LeakError, match="d: g in test and train"):
        read_manifest(write(tmp_path, {}, {"split": "test"}))
    assert len(read_manifest(write(tmp_path, {}, {"split": "test", "dataset": "other"}))) == 2


def test_damage_version_and_columns(tmp_path: Path) -> None:
    write(tmp_path, {})
    path = tmp_path / MANIFEST
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        read_manifest(tmp_path)
    pq.write_table(pa.table({"crop": ["a"]}), path)
    with pytest.raises(DataError, match="schema version none"):
        read_manifest(tmp_path)
    pq.write_table(pa.table({"crop": ["a"]}).replace_schema_metadata({"dfpipe_schema": "1"}), path)
    with pytest.raises(DataError, match=r"lacks the columns.*label"):
        read_manifest(tmp_path)


def test_columns_of_another_kind_and_texts_that_are_none_are_damage(tmp_path: Path) -> None:
    write(tmp_path, {})
    path = tmp_path / MANIFEST
    table = pq.read_table(path)
    place = table.column_names.index("crop")
    binary = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    for wrong in (pa.array([["a"]]), binary):
        pq.write_table(table.set_column(place, "crop", wrong), path)
        with pytest.raises(DataError, match="damaged"):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    "text",
    [b"preprocess: \xff", b"preprocess: {faces: []}", b"preprocess: {faces: {x: 1}}", b"9" * 5000, b"[" * 5000],
)
def test_damaged_settings(tmp_path: Path, text: bytes) -> None:
    (tmp_path / CONFIG).write_bytes(text)
    with pytest.raises(DataError, match="damaged"):
        read_faces(tmp_path)


def test_a_folder_of_an_earlier_version_does_not_say_how_compressed_clips_are(tmp_path: Path) -> None:
    old = pa.schema([field for field in INPUTS_SCHEMA if field.name != "bits_per_pixel"])
    write_table(tmp_path / INPUTS, old, [{"media_id": "a"}])
    assert read_inputs(tmp_path)[0]["bits_per_pixel"] is None


def test_writing_is_repeatable(tmp_path: Path) -> None:
    first = (write(tmp_path / "a", {}) / MANIFEST).read_bytes()
    assert (write(tmp_path / "b", {}) / MANIFEST).read_bytes() == first
    assert not (tmp_path / "a" / INPUTS).exists()


def test_only_what_is_asked_for_becomes_a_list() -> None:
    made = []

    def column(name: str) -> list[str]:
        made.append(name)
        return [f"{name}{row}" for row in range(3)]

    columns = Columns({name: partial(column, name) for name in ("crop", "split", "landmarks")})
    manifest = Manifest(Path("faces"), columns)
    assert (len(manifest), manifest.columns["crop"][2]) == (3, "crop2")
    few = manifest.take([2, 0])
    assert dict(few.columns) == {
        "crop": ["crop2", "crop0"],
        "split": ["split2", "split0"],
        "landmarks": ["landmarks2", "landmarks0"],
    }
    assert made == ["crop", "split", "landmarks"]


def test_a_table_in_many_groups_of_rows_reads_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"crop": f"crops/{i}.jpg", "group": f"g{i}", "landmarks": [float(i)] * 10} for i in range(7)]
    whole = read_manifest(write(tmp_path / "a", *rows))
    monkeypatch.setattr("dfpipe.preprocess.manifest._ROWS_AT_ONCE", 3)
    parts = read_manifest(write(tmp_path / "b", *rows))
    assert pq.read_metadata(tmp_path / "b" / MANIFEST).num_row_groups == 3
    assert dict(parts.columns) == dict(whole.columns)
    with pytest.raises(DataError, match="row 6: label 3"):
        read_manifest(write(tmp_path / "c", *rows[:6], {**rows[6], "label": 3}))
    with pytest.raises(LeakError, match="d: g0 in test and train"):
        read_manifest(write(tmp_path / "d", *rows, {**rows[0], "split": "test"}))
