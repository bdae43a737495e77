"""Verdicts on files in a store."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dfpipe import outbox, store
from dfpipe.cli import main
from dfpipe.config import Config
from dfpipe.demo import clip_frames
from dfpipe.errors import ResourceError, UsageError
from dfpipe.infer.detector import Detector
from dfpipe.infer.inputs import Upload, collect
from dfpipe.infer.judging import Options, Told, judge_into
from dfpipe.ledger import LEDGER, Ledger
from dfpipe.preprocess.extract import extract
from dfpipe.store import Url
from dfpipe.types import Label

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


# ---- verdicts in a store ---------------------------------------------------------------------------------------------

SERIAL = Options(engine="serial")
CHANGING = ("seconds", "judged_at")


@pytest.fixture(scope="module")
def detector(model: Path) -> Detector:
    return Detector.load(model, "cpu")


@pytest.fixture
def stills(save_still: Callable[..., Path]) -> list[Path]:
    """Eight different stills, cheap to judge."""
    return [save_still(f"in/{i} ünï.png", next(clip_frames(70 + i, Label.FAKE))) for i in range(8)]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where runs work; empty again after each test."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


def objects(bucket: Any, url: Url) -> dict[str, bytes]:
    fs, _ = bucket
    root = url.text.removeprefix("s3://")
    return {name.removeprefix(f"{root}/"): fs.cat_file(name) for name in fs.find(root)}


def table(text: bytes) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    return [{key: value for key, value in line.items() if key not in CHANGING} for line in lines]


def judged(detector: Detector, paths: list[Path], out: Path | Url) -> list[Told]:
    return list(judge_into(detector, map(Upload, paths), out, SERIAL))


def test_verdicts_in_a_store_are_those_of_a_folder(
    bucket: Any, detector: Detector, stills: list[Path], tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(stills[0], stills[0].with_name("the same.png"))
    paths = [*stills, stills[0].with_name("the same.png"), tmp_path / "gone.mp4"]
    judged(detector, paths, tmp_path / "here")
    out = Url(f"s3://{bucket[1]}/out ünï/verdicts")
    first = judged(detector, paths[:4], out)
    assert [told.fresh for told in first] == [True] * 4
    assert sum(told.fresh for told in judged(detector, paths, out)) == 5  # the copy is known
    there = objects(bucket, out)
    assert set(there) == {
        path.relative_to(tmp_path / "here").as_posix()
        for path in (tmp_path / "here").rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    assert table(there["verdicts.jsonl"]) == table((tmp_path / "here" / "verdicts.jsonl").read_bytes())
    assert there["verdicts.csv"] == (tmp_path / "here" / "verdicts.csv").read_bytes()
    assert b"0 \xc3\xbcn\xc3\xaf.png" in there[first[0].line["report"]]
    monkeypatch.setattr("dfpipe.infer.detector.look_task", None)  # whatever calls it fails
    again = judged(detector, paths[:-1], out)  # what is not there is tried again each time
    assert [told.fresh for told in again] == [False] * 9


def test_the_store_goes_in_the_middle_and_nothing_is_judged_twice(
    bucket: Any,
    detector: Detector,
    stills: list[Path],
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost_after: Callable[[int], AbstractContextManager[None]],
) -> None:
    """The ledger in the store never names a verdict whose report is not there."""
    out = Url(f"s3://{bucket[1]}/out")
    monkeypatch.setattr(outbox, "SETTLE_S", 0.0)
    monkeypatch.setattr(outbox, "PAUSE", 0.0)
    # a ledger, two files for each still, a ledger after each
    with lost_after(8), pytest.raises(ResourceError, match=r"cannot be written .*connection lost"):
        judged(detector, stills, out)
    there = objects(bucket, out)
    assert "verdicts.jsonl" not in there
    store.get(out / LEDGER, scratch / LEDGER)
    with closing(Ledger(scratch / LEDGER)) as ledger:
        reports = [row["report"] for _, row in ledger.rows()]
    for path in scratch.iterdir():
        path.unlink()
    assert 0 < len(reports) < 8
    assert set(reports) <= set(there)
    assert sum(told.fresh for told in judged(detector, stills, out)) == 8 - len(reports)
    assert len(table(objects(bucket, out)["verdicts.jsonl"])) == 8


def test_what_was_judged_before_ctrl_c_is_kept(
    bucket: Any, detector: Detector, stills: list[Path], scratch: Path
) -> None:
    out = Url(f"s3://{bucket[1]}/out")
    with pytest.raises(KeyboardInterrupt):
        for number, _ in enumerate(judge_into(detector, interrupted(stills, 3), out, SERIAL), start=1):
            assert number <= 3
    there = objects(bucket, out)
    lines = table(there["verdicts.jsonl"])
    assert len(lines) == 3
    assert {line["report"] for line in lines} <= set(there)
    assert sum(told.fresh for told in judged(detector, stills, out)) == 5


def interrupted(paths: list[Path], after: int) -> Iterator[Upload | None]:
    yield from map(Upload, paths[:after])
    yield None
    raise KeyboardInterrupt


def test_verdicts_without_a_ledger_are_not_overwritten(bucket: Any, detector: Detector, scratch: Path) -> None:
    fs, name = bucket
    fs.pipe_file(f"{name}/out/verdicts.jsonl", b"{}\n")
    with pytest.raises(UsageError, match=r"s3://.*/out/verdicts.jsonl has no ledger"):
        judged(detector, [], Url(f"s3://{name}/out"))
    assert objects(bucket, Url(f"s3://{name}/out")) == {"verdicts.jsonl": b"{}\n"}


def test_verdicts_and_crops_do_not_share_a_place(
    bucket: Any, detector: Detector, faces: Path, clips: Path, small_config: Config, scratch: Path
) -> None:
    fs, name = bucket
    fs.put_file(str(faces / LEDGER), f"{name}/faces/{LEDGER}")
    url = Url(f"s3://{name}/faces")
    before = objects(bucket, url)
    for place in (url, faces):
        with pytest.raises(UsageError, match="results of another dfpipe command"):
            judged(detector, [], place)
    assert objects(bucket, url) == before
    assert not (faces / "verdicts.jsonl").exists()
    judged(detector, [clips / "real" / "source_0.mp4"], url / "deeper")
    with pytest.raises(UsageError, match="results of another dfpipe command"):
        extract([clips], [], url / "deeper", small_config)


def test_a_place_that_takes_nothing_is_told_before_the_work(
    bucket: Any, detector: Detector, stills: list[Path], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfpipe.infer.detector.look_task", None)
    with pytest.raises(ResourceError, match=r"s3://no-such-bucket/out/.* cannot be"):
        judged(detector, stills, Url("s3://no-such-bucket/out"))


def test_the_command_reads_lists_of_places_and_writes_to_one(bucket: Any, stills: list[Path], tmp_path: Path) -> None:
    fs, name = bucket
    for path in stills[:2]:
        fs.put_file(str(path), f"{name}/in/deep folder/{path.name}")
    listed = [f"s3://{name}/in", f"s3://{name}/in/deep folder/{stills[0].name}", f"s3://{name}/gone ünï.mp4"]
    (tmp_path / "list.txt").write_text("\n".join(["# some", *listed, str(stills[2]), ""]), encoding="utf-8")
    words = (f"@{tmp_path / 'list.txt'}", "--out", f"s3://{name}/in/verdicts", "--overlay")
    first = infer(*words)
    assert first.exit_code == 3, first.output
    found = lines(first)
    assert set(found) == {*(path.name for path in stills[:3]), "gone ünï.mp4"}
    assert found["gone ünï.mp4"]["state"] == "unreadable"
    assert found[stills[0].name]["path"] == f"s3://{name}/in/deep folder/{stills[0].name}"
    there = objects(bucket, Url(f"s3://{name}/in/verdicts"))
    assert len([each for each in there if each.endswith("overlay.jpg")]) == 3
    fs.put_file(str(stills[3]), f"{name}/gone ünï.mp4".replace("mp4", "png"))
    (tmp_path / "list.txt").write_text((tmp_path / "list.txt").read_text().replace("gone ünï.mp4", "gone ünï.png"))
    again = infer(*words)  # the pictures among the verdicts are not judged
    assert again.exit_code == 0, again.output
    assert {file: line["seconds"] for file, line in lines(again).items() if file in found} == {
        file: line["seconds"] for file, line in found.items() if file != "gone ünï.mp4"
    }
    assert lines(again)["gone ünï.png"]["verdict"] != "ERROR"


def test_a_file_that_comes_later_is_judged_then(bucket: Any, stills: list[Path], tmp_path: Path) -> None:
    fs, name = bucket
    url = f"s3://{name}/later.png"
    assert lines(infer(url, "--out", tmp_path / "out"))["later.png"]["verdict"] == "ERROR"
    assert lines(infer(url, "--out", tmp_path / "out"))["later.png"]["verdict"] == "ERROR"
    fs.put_file(str(stills[0]), url)
    assert lines(infer(url, "--out", tmp_path / "out"))["later.png"]["verdict"] != "ERROR"


def test_places_are_left_alone_without_a_folder_to_copy_to(tmp_path: Path) -> None:
    assert [str(upload) for upload in collect(["s3://b/a.mp4"]).uploads] == ["s3:/b/a.mp4"]
