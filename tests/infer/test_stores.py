"""Verdicts on files in a store."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dfpipe.cli import main

pytest.importorskip("s3fs", reason="needs dfpipe[store]")


def infer(*words: object) -> Result:
    return CliRunner().invoke(main, ["infer", *map(str, words), "--frames", "4", "--workers", "1", "--json", "-q"])


def lines(result: Result) -> dict[str, dict[str, Any]]:
    told = [json.loads(line) for line in result.stdout.splitlines()]
    return {Path(line["path"]).name: line for line in told}


def test_a_store_gives_the_verdicts_that_a_folder_gives(bucket: Any, clips: Path, tmp_path: Path) -> None:
    fs, name = bucket
    folder = tmp_path / "in"
    folder.mkdir()
    for label in ("real", "fake"):
        shutil.copy(clips / label / "source_0.mp4", folder / f"{label}.mp4")
    shutil.copy(folder / "real.mp4", folder / "copy.mp4")
    (folder / "broken.mp4").write_bytes(b"no clip")
    (folder / "notes.txt").write_text("no media")
    for path in folder.iterdir():
        fs.put_file(str(path), f"{name}/in/{path.name}")
    here, there = infer(folder, "--out", tmp_path / "here"), infer(f"s3://{name}/in", "--out", tmp_path / "there")
    assert (here.exit_code, there.exit_code) == (3, 3), there.output
    ours, theirs = lines(here), lines(there)
    assert theirs["fake.mp4"]["path"] == f"s3://{name}/in/fake.mp4"
    for file in ("real.mp4", "fake.mp4", "copy.mp4", "broken.mp4"):
        for fact in ("state", "verdict", "p_fake", "reason", "sha256"):
            assert theirs[file][fact] == ours[file][fact], (file, fact)
    again = infer(f"s3://{name}/in", "--out", tmp_path / "there")
    assert {file: line["seconds"] for file, line in lines(again).items()} == {
        file: line["seconds"] for file, line in theirs.items()
    }
    gone = infer(f"s3://{name}/gone", "--out", tmp_path / "there")
    assert (gone.exit_code, "nothing usable in s3://" in gone.output) == (2, True)
