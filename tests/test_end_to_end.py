"""Real processes, as a user would start them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from dfpipe.demo import clip_frames, write_clip
from dfpipe.types import Image, Label

DFPIPE = [sys.executable, "-m", "dfpipe"]


def dfpipe(*words: object, cwd: Path, code: int = 0) -> str:
    run = subprocess.run([*DFPIPE, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=600)
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    return run.stdout


@pytest.mark.slow
def test_the_three_commands_follow_each_other_in_one_folder(clips: Path, elsewhere: Path) -> None:
    settings = ["--config", "demo", "--set", "preprocess.faces.frames=4"]
    assert "next: dfpipe train\n" in dfpipe("extract", "--videos", clips, *settings, cwd=elsewhere)
    assert "then: dfpipe infer clip.mp4\n" in dfpipe("train", *settings, "--set", "train.epochs=1", cwd=elsewhere)
    write_clip(elsewhere / "clip.mp4", clip_frames(40, Label.FAKE))
    out = dfpipe("infer", "clip.mp4", cwd=elsewhere)
    (verdict,) = map(json.loads, (elsewhere / "verdicts" / "verdicts.jsonl").read_text().splitlines())
    assert verdict["path"] == "clip.mp4"
    assert verdict["frames"] == {"wanted": 4, "decoded": 4, "with_face": 4}
    assert verdict["verdict"] in ("FAKE", "REAL", "UNCERTAIN")
    assert verdict["model"]["name"] in out


@pytest.mark.slow
def test_demo_needs_no_data_and_judges_right(tmp_path: Path) -> None:
    out = dfpipe("demo", "--out", tmp_path / "my demo", cwd=tmp_path)
    ours, trained = out.split("3/5 dfpipe extract")
    assert ours.count("in truth:") == 2
    lines = [line for line in trained.splitlines() if "in truth:" in line]
    assert len(lines) == 7
    right = [line for line in lines if line.split()[0] == line.split("in truth: ")[1].split(")")[0].split(",")[0]]
    assert len(right) >= 4  # of the five clips with a face
    assert any(line.split()[0] == "NO_FACE" for line in lines)
    assert any(line.split()[0] == "ERROR" for line in lines)
    assert "made up" in out
    verdicts = (tmp_path / "my demo" / "verdicts" / "verdicts.jsonl").read_text().splitlines()
    assert len(verdicts) == 7


def stills(folder: Path, count: int, start: int = 0) -> None:
    """Different pictures of one face, cheap to judge."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        write_still(folder / f"{i:02d}.png", next(clip_frames(100 + i, Label.REAL)))


def write_still(path: Path, image: Image) -> None:
    """Appears whole, as a file that is moved into a folder does."""
    PillowImage.fromarray(image).save(path.with_name(f".{path.name}"), format="PNG")
    path.with_name(f".{path.name}").rename(path)


def verdict_lines(out: Path) -> list[dict[str, Any]]:
    """Whole lines of verdicts.jsonl; the last one may be half-written."""
    path = out / "verdicts.jsonl"
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for(holds: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_in_a_folder_and_run_again_each_is_judged_once(model: Path, tmp_path: Path) -> None:
    stills(tmp_path / "in", 16)
    out = tmp_path / "out"
    words = ["infer", tmp_path / "in", "--model", model, "--out", out, "--workers", "1"]
    run = subprocess.Popen([*DFPIPE, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(verdict_lines(out)) >= 4 or run.poll() is not None)
    run.kill()
    run.wait()
    before = {line["path"]: line for line in verdict_lines(out)}
    assert 4 <= len(before) < 16
    printed = dfpipe(*words, cwd=tmp_path)
    after = {line["path"]: line for line in verdict_lines(out)}
    assert sorted(Path(path).name for path in after) == [f"{i:02d}.png" for i in range(16)]
    assert {path: after[path] for path in before} == before  # not judged again: even the time is the same
    assert len(before) <= printed.count("(judged before)") <= len(before) + 1  # the ledger may know one line more
    assert not list(out.glob(".tmp*"))
    for line in after.values():
        assert (out / line["report"]).read_text().endswith("</html>")
        assert json.loads((out / line["report"]).with_name("report.json").read_text()) == line


@pytest.mark.slow
def test_watch_judges_what_arrives_and_survives_a_kill(model: Path, tmp_path: Path) -> None:
    inbox, out = tmp_path / "in box", tmp_path / "out"
    stills(inbox, 1)
    words = ["watch", inbox, "--model", model, "--out", out, "--workers", "1", "--every", "0.2", "--settle", "0.4"]
    command = [*DFPIPE, *map(str, words)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(verdict_lines(out)) == 1)
    (inbox / "text.mp4").write_text("no clip")
    stills(inbox, 2, start=1)
    wait_for(lambda: len(verdict_lines(out)) == 4)
    first.kill()
    first.wait()
    before = verdict_lines(out)
    stills(inbox, 1, start=3)  # arrives while nobody watches
    second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(verdict_lines(out)) == 5)
    second.send_signal(signal.SIGINT)
    printed, told = second.communicate(timeout=60)
    assert second.returncode == 130, told
    assert "Traceback" not in told
    assert "03.png" in printed
    assert "00.png" not in printed  # judged before, and not said again
    after = {line["path"]: line for line in verdict_lines(out)}
    assert len(after) == 5
    assert {line["path"]: after[line["path"]] for line in before} == {line["path"]: line for line in before}
    assert after[str(inbox / "text.mp4")]["verdict"] == "ERROR"


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_cleanly_and_leaves_no_child(
    sign: signal.Signals, code: int, clips: Path, tmp_path: Path
) -> None:
    run, children = _in_the_middle(clips, tmp_path)
    os.killpg(run.pid, sign)
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == code, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert list((tmp_path / "out").glob("crops/*/*"))
    _check_gone(children)
    assert not list((tmp_path / "temporary").iterdir())


def test_a_second_signal_ends_at_once(clips: Path, tmp_path: Path) -> None:
    run, children = _in_the_middle(clips, tmp_path)
    os.kill(run.pid, signal.SIGSTOP)  # both are there when it goes on
    os.kill(run.pid, signal.SIGINT)
    os.kill(run.pid, signal.SIGTERM)
    os.kill(run.pid, signal.SIGCONT)
    _, stderr = run.communicate(timeout=60)
    assert run.returncode in (130, 143), stderr
    assert "Traceback" not in stderr
    _check_gone(children)


def _in_the_middle(clips: Path, folder: Path) -> tuple["subprocess.Popen[str]", list[int]]:
    """An extraction that has finished something and is at more, and its child processes."""
    shutil.copytree(clips, folder / "in")
    (folder / "temporary").mkdir()
    words = ["extract", "--videos", str(folder / "in"), "--out", str(folder / "out"), "--workers", "1"]
    run = subprocess.Popen(
        [*DFPIPE, *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(folder / "temporary")},
    )
    wait_for(lambda: list((folder / "out").glob("crops/*/*")))
    return run, [pid for pid, parent, _ in _processes() if parent == run.pid]


def _check_gone(pids: list[int]) -> None:
    assert pids
    # multiprocessing's own helper notices a moment later
    wait_for(lambda: not any(pid in pids and not state.startswith("Z") for pid, _, state in _processes()))


def _processes() -> list[tuple[int, int, str]]:
    """All of the machine: process, parent, state."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,stat"], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in listed.splitlines()[1:])
    return [(int(pid), int(parent), state) for pid, parent, state in rows]
