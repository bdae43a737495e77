"""Shards of an extraction become the folder that one run would have left."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dfpipe.cli import main
from dfpipe.config import Config
from dfpipe.errors import ConfigError, DataError, SourceError
from dfpipe.ledger import LEDGER, Ledger
from dfpipe.preprocess.extract import extract
from dfpipe.preprocess.manifest import CONFIG, MANIFEST, read_inputs
from dfpipe.preprocess.merge import merge

SHARDS = 3


def tree(folder: Path) -> dict[str, bytes]:
    """All that an extraction leaves but the table of inputs and the ledger, which tell how long each took."""
    files = [folder / name for name in (MANIFEST, CONFIG, "missing.txt")] + sorted((folder / "crops").rglob("*.*"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def inputs(folder: Path) -> list[dict[str, Any]]:
    return [{**row, "seconds": None} for row in read_inputs(folder)]


@pytest.fixture(scope="module")
def config(small_config: Config) -> Config:
    return small_config.with_preprocess(folds=3)


@pytest.fixture(scope="module")
def collection(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips, one of them broken, and stills beside them."""
    folder = tmp_path_factory.mktemp("collection") / "made"
    shutil.copytree(clips, folder, ignore=shutil.ignore_patterns("source_[4-7].mp4"))
    (folder / "real" / "broken.mp4").write_bytes(b"no clip")
    return folder


@pytest.fixture(scope="module")
def whole(collection: Path, tmp_path_factory: pytest.TempPathFactory, config: Config) -> Path:
    """What one run leaves."""
    out = tmp_path_factory.mktemp("whole") / "faces"
    extract([collection], [], out, config, engine="serial")
    return out


@pytest.fixture(scope="module")
def made(collection: Path, tmp_path_factory: pytest.TempPathFactory, config: Config) -> list[Path]:
    """What the shards leave."""
    folder = tmp_path_factory.mktemp("shards")
    for part in range(1, SHARDS + 1):
        extract([collection], [], folder / str(part), config, engine="serial", shard=(part, SHARDS))
    return [folder / str(part) for part in range(1, SHARDS + 1)]


@pytest.fixture
def shards(made: list[Path], tmp_path: Path) -> list[Path]:
    """Copies of them that a test may change."""
    return [Path(shutil.copytree(shard, tmp_path / "shards" / shard.name)) for shard in made]


def test_it_is_what_one_run_writes(shards: list[Path], whole: Path, tmp_path: Path) -> None:
    done = merge(shards, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(whole)
    assert inputs(tmp_path / "out") == inputs(whole)
    assert (done.shards, done.absent, done.summary.inputs) == (SHARDS, (), 9)
    assert done.summary.states == {"ok": 8, "unsupported": 1}
    crop = next((tmp_path / "out" / "crops").rglob("*.jpg"))
    assert crop.stat().st_nlink == 2


def test_extraction_goes_on_from_it(shards: list[Path], collection: Path, tmp_path: Path, config: Config) -> None:
    merge(shards, tmp_path / "out")
    assert extract([collection], [], tmp_path / "out", config, engine="serial").resumed == 9


def test_shards_can_come_one_after_the_other_and_again(shards: list[Path], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    some = merge(shards[:2], out)
    assert set(some.absent) == {f"made/{row['name']}" for row in read_inputs(shards[2])}
    assert not merge([out, shards[2]], out).absent
    assert tree(out) == tree(whole)
    written = (out / MANIFEST).stat().st_ino
    assert merge(shards, out).summary.resumed == 9
    assert (out / MANIFEST).stat().st_ino == written
    merge([out], tmp_path / "other")
    assert tree(tmp_path / "other") == tree(whole)
    assert inputs(tmp_path / "other") == inputs(whole)


def test_copies_where_links_cannot_be(
    shards: list[Path], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    merge(shards, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(whole)
    assert {path.stat().st_nlink for path in (tmp_path / "out" / "crops").rglob("*.jpg")} == {1}


@pytest.mark.parametrize("after", [1, 4, 7])
def test_stopped_anywhere_and_started_again(shards: list[Path], whole: Path, tmp_path: Path, after: int) -> None:
    """Killed, not interrupted: nothing can be put in order afterwards."""
    out = tmp_path / "out"
    code = (
        "import os, sys; from pathlib import Path; from dfpipe.preprocess import merge as room\n"
        "take, left = room._take_crops, [int(sys.argv[1])]\n"
        "def counted(*words):\n"
        "    take(*words); left[0] -= 1\n"
        "    if not left[0]: (Path(sys.argv[2]) / '.tmp-1-half').mkdir(); os._exit(9)\n"
        "room._take_crops = counted\n"
        "room.merge([Path(w) for w in sys.argv[3:]], Path(sys.argv[2]))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(after), str(out), *map(str, shards)])
    assert run.returncode == 9
    assert not (out / MANIFEST).exists()
    merge(shards, out)
    assert tree(out) == tree(whole)
    assert not list(out.glob(".tmp-*"))


def test_crops_that_are_damaged_in_the_whole_are_put_right(shards: list[Path], whole: Path, tmp_path: Path) -> None:
    """As after a power cut, before the rows were written."""
    out = tmp_path / "out"
    merge(shards, out)
    (out / LEDGER).unlink()
    crop = next((out / "crops").rglob("*.jpg"))
    crop.unlink()
    crop.write_bytes(b"half")
    merge(shards, out)
    assert tree(out) == tree(whole)


def test_different_settings_are_refused_and_told(
    shards: list[Path], collection: Path, tmp_path: Path, config: Config
) -> None:
    other = tmp_path / "other"
    extract([collection], [], other, config.with_preprocess(jpeg_quality=80), engine="serial", shard=(3, SHARDS))
    with pytest.raises(ConfigError, match=rf"preprocess.jpeg_quality is {config.preprocess.jpeg_quality} and 80"):
        merge([*shards[:2], other], tmp_path / "out")
    merge(shards[:2], tmp_path / "out")
    with pytest.raises(ConfigError, match="jpeg_quality"):
        merge([other], tmp_path / "out")


def first(folder: Path) -> tuple[str, str, dict[str, Any]]:
    ledger = Ledger(folder / LEDGER)
    key, row = next(ledger.rows())
    fingerprint = ledger.fingerprints()[key]
    ledger.close()
    return key, fingerprint, row


def add(folder: Path, key: str, fingerprint: str, row: dict[str, Any]) -> None:
    ledger = Ledger(folder / LEDGER)
    told = ledger.published
    ledger.record(key, fingerprint, row)
    ledger.publish(told or "")
    ledger.close()


def test_an_input_in_two_shards(shards: list[Path], whole: Path, tmp_path: Path) -> None:
    key, fingerprint, row = first(shards[0])
    shutil.copytree(shards[0] / "crops", shards[1] / "crops", dirs_exist_ok=True)
    add(shards[1], key, "of another machine", {**row, "seconds": 99.0, "path": "elsewhere"})
    merge(shards, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(whole)
    add(shards[1], key, fingerprint, {**row, "sha256": "0" * 64})
    with pytest.raises(DataError, match=r"not the same \(other sha256"):
        merge(shards, tmp_path / "other")
    with pytest.raises(DataError, match="another content than what was merged"):
        merge([shards[1]], tmp_path / "out")


def test_what_a_shard_did_again_replaces_what_was_merged(shards: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    key, fingerprint, row = first(shards[0])
    add(shards[0], key, fingerprint, {**row, "state": "timeout", "crop_rows": [], "crops": 0})
    assert merge(shards, out).summary.states["timeout"] == 1
    add(shards[0], key, fingerprint, row)
    assert "timeout" not in merge(shards, out).summary.states


def test_what_is_no_finished_extraction_is_refused(shards: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no finished extraction"):
        merge([*shards, tmp_path / "empty"], tmp_path / "out")
    key, fingerprint, row = first(shards[0])
    ledger = Ledger(shards[0] / LEDGER)
    ledger.record(key, fingerprint, row)  # as a run that was killed after it
    ledger.close()
    with pytest.raises(SourceError, match="is not finished"):
        merge(shards, tmp_path / "out")


def test_a_crop_that_is_gone_is_told(shards: list[Path], tmp_path: Path) -> None:
    next((shards[1] / "crops").rglob("*.jpg")).unlink()
    with pytest.raises(DataError, match=r"is named by the ledger of .* and not there"):
        merge(shards, tmp_path / "out")


@pytest.mark.parametrize("folder", ["crops/../../precious", "/{}/precious", "crops/ab/../../../precious"])
def test_a_ledger_cannot_name_other_files(shards: list[Path], tmp_path: Path, folder: str) -> None:
    """Merging replaces the folders that a ledger names."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "000000_0.jpg").write_text("mine")
    with contextlib.closing(Ledger(shards[0] / LEDGER)) as ledger:
        key, row = next((key, row) for key, row in ledger.rows() if row["crop_rows"])
        name = f"{folder.format(tmp_path)}/000000_0.jpg"
        ledger.record(key, ledger.fingerprints()[key], {**row, "crop_rows": [{**row["crop_rows"][0], "crop": name}]})
        ledger.publish("stamp")
    with pytest.raises(DataError, match="no extraction writes"):
        merge(shards, tmp_path / "out")
    assert (precious / "000000_0.jpg").read_text() == "mine"


def test_the_command_tells_what_no_shard_has(shards: list[Path], tmp_path: Path) -> None:
    words = ["merge", *map(str, shards), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "next: dfpipe train --data" in done.output
    part = CliRunner().invoke(main, ["merge", str(shards[0]), "--out", str(tmp_path / "part"), "--json"])
    assert part.exit_code == 3
    assert f"{9 - len(read_inputs(shards[0]))} inputs are in none of the shards (made/" in part.output
