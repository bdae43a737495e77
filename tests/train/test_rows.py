import shutil
from pathlib import Path

import pytest

from dfpipe.errors import DataError, LeakError
from dfpipe.preprocess.manifest import read_manifest
from dfpipe.train.rows import WORST_SHARE, describe, fingerprint, training_rows


@pytest.fixture
def copy(faces: Path, tmp_path: Path) -> Path:
    shutil.copytree(faces, tmp_path / "copy")
    return tmp_path / "copy"


def test_rows_are_those_of_the_splits(faces: Path) -> None:
    manifest = read_manifest(faces)
    rows = training_rows(manifest)
    assert rows == {split: manifest.rows_of(split) for split in ("train", "validation")}
    said = describe(manifest, rows)
    assert said["crops"]["train"]["real"] + said["crops"]["train"]["fake"] == len(rows["train"])
    assert said["crops"]["test"]["real"] > 0


def test_other_rows_may_not_leak(faces: Path) -> None:
    manifest = read_manifest(faces)
    train = manifest.rows_of("train")
    with pytest.raises(LeakError, match="more than one split"):
        training_rows(manifest, {"train": train[1:], "validation": train[:1]})


def test_a_validation_of_one_label_is_told(faces: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = read_manifest(faces)
    fakes = [row for row in manifest.rows_of("validation") if manifest.columns["label"][row] == 1]
    with caplog.at_level("WARNING", logger="dfpipe"):
        training_rows(manifest)
        assert not caplog.records
        training_rows(manifest, {"validation": fakes})
    assert "all crops of split 'validation' are fake" in caplog.text


def broken(folder: Path, count: int, how: str) -> list[Path]:
    manifest = read_manifest(folder)
    paths = [manifest.path(row) for row in manifest.rows_of("train")[:count]]
    for path in paths:
        content = path.read_bytes()
        if how == "missing":
            path.unlink()
        else:
            path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"no picture at all"}[how])
    return paths


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "text"])
def test_many_bad_crops_are_refused_and_named(copy: Path, how: str) -> None:
    paths = broken(copy, 3, how)
    with pytest.raises(DataError, match=r"3 of \d+ crops are missing or damaged") as caught:
        training_rows(read_manifest(copy))
    assert all(str(path) in str(caught.value) for path in paths)


@pytest.mark.parametrize("how", ["missing", "cut"])
def test_few_bad_crops_are_left_out_and_told(
    copy: Path, how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfpipe.train.rows.WORST_SHARE", 0.1)
    before = training_rows(read_manifest(copy))
    (path,) = broken(copy, 1, how)
    after = training_rows(read_manifest(copy))
    assert len(after["train"]) == len(before["train"]) - 1
    assert str(path) in caplog.text
    assert "left out" in caplog.text
    assert fingerprint(read_manifest(copy), after) != fingerprint(read_manifest(copy), before)


def test_the_share_is_one_percent() -> None:
    assert WORST_SHARE == 0.01
