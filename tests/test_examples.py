"""The scripts in examples/, each as a user would start it."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfpipe.demo import clip_frames, write_clip
from dfpipe.preprocess.manifest import CROPS_SCHEMA, MANIFEST, read_columns, read_inputs
from dfpipe.types import Label

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = ["--config", "demo", "--set", "train.epochs=1", "--set", "preprocess.faces.frames=4"]


def run(script: str, *words: object, cwd: Path, code: int = 0) -> str:
    """Runs an example and returns what it printed."""
    command = [sys.executable, str(EXAMPLES / script), *map(str, words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources, each real and fake."""
    folder = tmp_path_factory.mktemp("few")
    for source in range(2):
        for label in Label:
            write_clip(folder / label.name.lower() / f"source_{source}.mp4", clip_frames(source, label))
    return folder


def test_every_example_is_short_says_how_to_run_it_and_is_in_the_list() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) >= 5
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 60, script.name
        assert f"    python examples/{script.name}" in text.split('"""')[1], script.name
        assert f"]({script.name})" in listed
        assert f'"{script.name}"' in Path(__file__).read_text(encoding="utf-8"), f"{script.name} is not tried here"


@pytest.mark.slow
def test_a_folder_becomes_a_table_with_a_row_for_every_file(few: Path, tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    shutil.copy(few / "real" / "source_0.mp4", folder / "a clip.mp4")
    (folder / "text.mp4").write_text("no clip")
    assert "2 verdicts" in run("score_folder.py", "uploads", "table.csv", cwd=tmp_path)
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert set(rows) == {"a clip.mp4", "text.mp4"}
    assert 0 <= float(rows["a clip.mp4"]["p_fake"]) <= 1
    assert rows["a clip.mp4"]["people"] == "1"
    assert rows["text.mp4"]["verdict"] == "ERROR"
    assert rows["text.mp4"]["p_fake"] == ""


@pytest.fixture(scope="module")
def mine(few: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What train_from_csv.py makes of them, and prints: one source to train on, the other to validate on."""
    folder = tmp_path_factory.mktemp("list")
    splits = {"source_0": "train", "source_1": "validation"}
    lines = [f"{clip},{clip.parent.name},{clip.stem},{splits[clip.stem]}" for clip in sorted(few.glob("*/*.mp4"))]
    (folder / "list.csv").write_text("\n".join(["path,label,group,split", *lines]) + "\n", encoding="utf-8")
    printed = run("train_from_csv.py", "list.csv", "--out", "mine", *SMALL, cwd=folder)
    return folder / "mine", printed


@pytest.mark.slow
def test_a_list_becomes_a_model(mine: tuple[Path, str]) -> None:
    folder, printed = mine
    (model,) = folder.glob("runs/*/model.safetensors")
    assert f"--model {model.relative_to(folder.parent)}" in printed
    rows = read_inputs(folder / "faces")
    assert sorted((row["label"], row["state"], row["split"]) for row in rows) == [
        (0, "ok", "train"),
        (0, "ok", "validation"),
        (1, "ok", "train"),
        (1, "ok", "validation"),
    ]


@pytest.mark.slow
def test_a_detector_of_one_s_own_finds_the_faces_also_in_the_child_processes(few: Path, tmp_path: Path) -> None:
    setting = ["--config", "demo", "--set", "preprocess.faces.detector=lbp", "--set", "preprocess.faces.frames=4"]
    told = run("own_detector.py", "extract", "--videos", few, "--limit", 2, *setting, cwd=tmp_path)
    assert "ok 2" in told
    table = read_columns(tmp_path / "data" / "faces" / MANIFEST, CROPS_SCHEMA, ["confidence"])
    assert {round(value, 2) for value in table["confidence"]} == {0.95}, "found by the script's detector"
    plain = [sys.executable, "-m", "dfpipe", "extract", "--videos", str(few), "--out", "plain", *setting]
    done = subprocess.run(plain, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "lbp" in done.stderr


@pytest.mark.slow
def test_a_network_of_one_s_own_is_trained_and_judges_and_is_refused_without_the_script(
    few: Path, mine: tuple[Path, str], tmp_path: Path
) -> None:
    tiny = ["--set", "train.model=tiny", "--set", "train.image_size=96"]
    run("own_network.py", "train", "--data", mine[0] / "faces", *SMALL, *tiny, cwd=tmp_path)
    clip = few / "real" / "source_1.mp4"
    out = run("own_network.py", "infer", clip, "--frames", 4, cwd=tmp_path)
    (verdict,) = map(json.loads, (tmp_path / "verdicts" / "verdicts.jsonl").read_text().splitlines())
    assert verdict["verdict"] in ("FAKE", "REAL", "UNCERTAIN")
    assert verdict["verdict"] in out
    plain = [sys.executable, "-m", "dfpipe", "infer", str(clip), "--out", "plain"]
    done = subprocess.run(plain, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 4
    assert "'tiny' is not known here" in done.stderr


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """A running `dfpipe serve` with the model that ships."""
    pytest.importorskip("fastapi", reason="needs the extra web")
    pytest.importorskip("httpx", reason="needs the extra dev")
    words = ["serve", "--port", "0", "--data", "service", "--frames", "4", "--min-free-mb", "50", "--device", "cpu"]
    with subprocess.Popen(
        [sys.executable, "-m", "dfpipe", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


@pytest.mark.slow
def test_files_go_to_the_service_and_verdicts_come_back(service: str, few: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no clip")
    assert not os.environ.get("DFPIPE_API_KEY")
    out = run("rest_client.py", service, few / "fake" / "source_0.mp4", "broken.mp4", cwd=tmp_path)
    first, second = out.splitlines()
    assert first.split()[0] in ("FAKE", "REAL", "UNCERTAIN")
    assert "source_0.mp4" in first
    assert second.startswith("ERROR         -  broken.mp4  ")
    assert len(list(tmp_path.glob("*.html"))) == 2
