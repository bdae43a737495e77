"""Real processes, as a user would start them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dfpipe.demo import clip_frames, write_clip
from dfpipe.types import Label

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
    assert "next:  dfpipe infer clip.mp4\n" in dfpipe("train", *settings, "--set", "train.epochs=1", cwd=elsewhere)
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
    lines = [line for line in out.splitlines() if "in truth:" in line]
    assert len(lines) == 7
    right = [line for line in lines if line.split()[0] == line.split("in truth: ")[1].split(")")[0].split(",")[0]]
    assert len(right) >= 4  # of the five clips with a face
    assert any(line.split()[0] == "NO_FACE" for line in lines)
    assert any(line.split()[0] == "ERROR" for line in lines)
    assert "made up" in out
    verdicts = (tmp_path / "my demo" / "verdicts" / "verdicts.jsonl").read_text().splitlines()
    assert len(verdicts) == 7


def test_ctrl_c_stops_cleanly_and_leaves_no_child(clips: Path, tmp_path: Path) -> None:
    shutil.copytree(clips, tmp_path / "in")
    words = ["extract", "--videos", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--workers", "1"]
    run = subprocess.Popen([*DFPIPE, *words], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.time() + 120
    while not list((tmp_path / "out").glob("crops/*/*")) and time.time() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert list((tmp_path / "out").glob("crops/*/*"))
    while time.time() < deadline and _alive(run.pid):
        time.sleep(0.1)  # multiprocessing's own helper notices a moment later
    assert not _alive(run.pid)


def _alive(group: int) -> list[str]:
    """Processes of a group that are not dead already, as `ps` shows them."""
    listed = subprocess.run(["ps", "-eo", "pgid,stat,args"], capture_output=True, text=True, check=True).stdout
    rows = (line.split(None, 2) for line in listed.splitlines()[1:])
    return [" ".join(row) for row in rows if row[0] == str(group) and not row[1].startswith("Z")]
