"""Crops in tar files: the same crops, for training and for whoever reads WebDataset's layout."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from dfpipe.cli import main
from dfpipe.errors import DataError, UsageError
from dfpipe.preprocess import packed as room
from dfpipe.preprocess.cropfiles import crop_bytes
from dfpipe.preprocess.looks import Fault, absent, look_at
from dfpipe.preprocess.manifest import MANIFEST, read_manifest
from dfpipe.preprocess.packed import pack
from dfpipe.train.dataset import CropDataset
from dfpipe.train.rows import training_rows


@pytest.fixture(scope="module")
def out(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up faces, packed into files of at most 1 MB."""
    folder = tmp_path_factory.mktemp("packed") / "out"
    pack(faces, folder, 1)
    return folder


def test_every_crop_is_where_the_manifest_says(faces: Path, out: Path) -> None:
    here, there = read_manifest(faces), read_manifest(out)
    assert [crop_bytes(str(there.path(row))) for row in range(len(there))] == [
        here.path(row).read_bytes() for row in range(len(here))
    ]
    for name in here.columns:
        assert (here.columns[name] == there.columns[name]) == (name != "crop"), name


def test_training_sees_the_same(faces: Path, out: Path) -> None:
    here, there = read_manifest(faces), read_manifest(out)
    rows = training_rows(here)
    assert training_rows(there) == rows
    ours, theirs = (CropDataset(manifest, rows["train"], 64, "strong") for manifest in (here, there))
    for position in range(len(ours)):
        assert torch.equal(ours[position, 7][0], theirs[position, 7][0])
        assert torch.equal(ours[position, 7][1], theirs[position, 7][1])
    assert look_at(there, range(9)) == look_at(here, range(9))


def test_the_layout_is_that_of_webdataset(out: Path) -> None:
    seen = 0
    for shard in sorted((out / "shards").iterdir()):
        with tarfile.open(shard) as tar:
            names = tar.getnames()
            assert shard.stat().st_size < 1.1e6
            for picture, text in zip(names[::2], names[1::2], strict=True):
                assert picture.removesuffix(".jpg") == text.removesuffix(".json")
                told = json.load(tar.extractfile(text) or pytest.fail(text))
                assert shard.name.startswith(f"{told['split']}-")
                assert told["label"] in (0, 1)
                seen += 1
    assert seen == len(read_manifest(out))


def test_the_library_of_that_name_reads_it(out: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="needs the package webdataset")
    files = [str(path) for path in sorted((out / "shards").glob("train-*.tar"))]
    samples = list(webdataset.WebDataset(files, shardshuffle=False).decode("rgb8").to_tuple("jpg", "json"))
    assert len(samples) == len(read_manifest(out).rows_of("train"))
    assert samples[0][0].shape == (256, 256, 3)
    assert samples[0][1]["split"] == "train"


def test_stopped_and_started_again(faces: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, done = room._write, []

    def twice(path: Path, samples: object) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        write(path, samples)  # type: ignore[arg-type]
        done.append(path)

    monkeypatch.setattr(room, "_write", twice)
    with pytest.raises(KeyboardInterrupt):
        pack(faces, tmp_path / "out", 1)
    assert not (tmp_path / "out" / MANIFEST).exists()
    kept = {path: path.stat().st_ino for path in done}
    monkeypatch.setattr(room, "_write", write)
    pack(faces, tmp_path / "out", 1)
    assert {path: path.stat().st_ino for path in done} == kept
    assert {p.name: p.read_bytes() for p in (tmp_path / "out" / "shards").iterdir()} == {
        p.name: p.read_bytes() for p in (out / "shards").iterdir()
    }
    assert (tmp_path / "out" / MANIFEST).read_bytes() == (out / MANIFEST).read_bytes()


def test_what_cannot_be_packed_is_told(faces: Path, out: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is packed already"):
        pack(out, tmp_path / "out")
    with pytest.raises(UsageError, match="another --out"):
        pack(faces, faces)
    shutil.copytree(faces, tmp_path / "faces")
    next((tmp_path / "faces" / "crops").rglob("*.jpg")).unlink()
    with pytest.raises(DataError, match="is missing"):
        pack(tmp_path / "faces", tmp_path / "out")


def test_a_tar_file_that_is_gone_or_cut_is_seen(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    shard = tmp_path / "out" / "shards" / "train-000000.tar"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    assert Fault.DAMAGED in look_at(manifest, range(len(manifest))).values()
    with pytest.raises(DataError, match="missing or damaged"):
        training_rows(manifest)
    shard.unlink()
    assert absent(manifest)


def test_the_command(faces: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["pack", str(faces), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert f"{len(read_manifest(faces))} crops in 3 tar files" in done.output
