"""The command line through click's own runner, and its exit codes."""

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image as PillowImage

from dfpipe import cli
from dfpipe.demo import clip_frames
from dfpipe.errors import DfpipeError
from dfpipe.types import Label

FAST = ["--engine", "serial", "--config", "demo", "--set", "preprocess.faces.frames=6"]


@pytest.fixture
def run(elsewhere: Path) -> Callable[..., Result]:
    """Runs dfpipe in an empty folder."""

    def call(*words: object) -> Result:
        return CliRunner().invoke(cli.main, [str(word) for word in words])

    return call


def check_failure(result: Result, code: int, *parts: str) -> None:
    """One clear line, the right exit code, no traceback."""
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    for part in parts:
        assert part in result.output


def test_bad_usage_is_exit_2(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_failure(run("extract"), 2, "--videos or --images")
    check_failure(run("extract", "--videos", tmp_path / "gone"), 2, "no such folder")
    check_failure(run("extract", "--videos", tmp_path / "empty"), 2, "nothing usable", "metadata.json")
    check_failure(run("extract", "--videos", tmp_path, "--config", "defualt"), 2, "did you mean 'default'")
    check_failure(run("extract", "--videos", tmp_path, "--set", "train.epoch=1"), 2, "train.epoch", "epochs")
    check_failure(run("train"), 2, "no manifest.parquet in data/faces", "dfpipe extract")
    check_failure(run("train", "--set", "train.epochs=0"), 2, "at least 1")
    check_failure(run("infer", tmp_path / "empty"), 2, "nothing usable")
    check_failure(run("infer"), 2, "PATH")
    check_failure(run("extrct"), 2, "No such command")


def test_no_or_a_wrong_model_is_exit_4(
    run: Callable[..., Result], clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("dfpipe.infer.detector.embedded_model", lambda: None)
        check_failure(run("infer", clip), 4, "no model", "dfpipe train")
    check_failure(run("infer", clip, "--model", tmp_path / "gone.safetensors"), 4, "gone.safetensors")
    (tmp_path / "text.safetensors").write_text("not a model")
    check_failure(run("infer", clip, "--model", tmp_path / "text.safetensors"), 4, "not a model file")
    assert not Path("verdicts").exists()


def test_an_output_that_cannot_be_written(run: Callable[..., Result], clips: Path, model: Path, clip: Path) -> None:
    Path("taken").write_text("a file")
    check_failure(run("extract", "--videos", clips, "--out", "taken"), 2, "choose another --out")
    check_failure(run("infer", clip, "--model", model, "--out", "taken", "--engine", "serial"), 2, "another --out")


def test_extract_prints_states_that_add_up(run: Callable[..., Result], clips: Path, tmp_path: Path) -> None:
    shutil.copytree(clips, tmp_path / "in")
    (tmp_path / "in" / "real" / "bro\nken.mp4").write_text("x")
    result = run("extract", "--videos", tmp_path / "in", *FAST)
    check_failure(result, 3, "1 of 17 inputs failed")
    counts = dict(line.split()[:2] for line in result.stdout.splitlines() if line.startswith(("ok", "unsup", "inputs")))
    assert counts == {"ok": "16", "unsupported": "1", "inputs": "17"}
    assert "next: dfpipe train\n" in result.stdout
    machine = run("extract", "--videos", tmp_path / "in", *FAST, "--json")
    assert json.loads(machine.stdout)["states"] == {"ok": 16, "unsupported": 1}
    assert json.loads(machine.stdout)["resumed"] == 17


def test_limit_takes_a_spread_sample(run: Callable[..., Result], clips: Path) -> None:
    found = json.loads(run("extract", "--videos", clips, *FAST, "--limit", "4", "--json").stdout)
    assert found["inputs"] == 4
    assert {label for labels in found["splits"].values() for label in labels} == {"real", "fake"}


def test_infer_prints_a_line_per_input(
    run: Callable[..., Result], clip: Path, faceless_clip: Path, model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "up loads"
    folder.mkdir()
    for path in (clip, faceless_clip):
        shutil.copy(path, folder)
    (folder / "notes.txt").write_text("hello")
    result = run("infer", folder, "--model", model, "--engine", "serial")
    assert result.exit_code == 0, result.output
    first, *lines, last = result.stdout.splitlines()
    assert str(model) in first
    assert "not calibrated" in first
    assert len(lines) == 2
    assert any(line.startswith("NO_FACE      - ") for line in lines)
    assert last.startswith("2 inputs: ")
    assert "notes.txt" in result.stderr
    assert len(Path("verdicts/verdicts.jsonl").read_text().splitlines()) == 2


def test_infer_json_is_clean_on_stdout(run: Callable[..., Result], clip: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_text("x")
    result = run("infer", clip, tmp_path / "x.mp4", "--model", model, "--engine", "serial", "--json", "--out", "v")
    check_failure(result, 3, "1 of 2 inputs could not be judged")
    verdicts = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(v["state"] for v in verdicts) == ["ok", "unsupported"]
    assert str(model) in result.stderr


def test_infer_goes_on_where_it_was(run: Callable[..., Result], model: Path, tmp_path: Path) -> None:
    for i in range(2):
        PillowImage.fromarray(next(clip_frames(70 + i, Label.REAL))).save(tmp_path / f"{i}.png")
    words = ["--model", model, "--engine", "serial"]
    first = run("infer", tmp_path / "0.png", *words)
    again = run("infer", f"{tmp_path}/*.png", *words)
    assert first.exit_code == again.exit_code == 0
    assert [line.count("(judged before)") for line in again.stdout.splitlines()[1:3]] in ([1, 0], [0, 1])
    assert again.stdout.splitlines()[-1].startswith("2 inputs: ")
    Path("list.txt").write_text(f"{tmp_path}/1.png\n")
    listed = run("infer", "@list.txt", *words, "--json")
    assert json.loads(listed.stdout)["path"] == f"{tmp_path}/1.png"


def test_infer_draws_and_explains(run: Callable[..., Result], model: Path, tmp_path: Path) -> None:
    PillowImage.fromarray(next(clip_frames(72, Label.FAKE))).save(tmp_path / "a.png")
    flags = ["--model", model, "--engine", "serial", "--overlay", "--heatmap", "--frames", "3", "--json"]
    line = json.loads(run("infer", tmp_path / "a.png", *flags).stdout)
    assert line["rule"]["frames"] == 3
    report = Path("verdicts", line["report"])
    assert report.with_name("overlay.jpg").is_file()
    assert "Grad-CAM" in report.read_text()


def test_infer_refuses_what_cannot_be(run: Callable[..., Result], model: Path, clip: Path, tmp_path: Path) -> None:
    check_failure(run("infer", f"{tmp_path}/*.mp4", "--model", model), 2, "nothing matches")
    check_failure(run("infer", f"@{tmp_path}/gone.txt", "--model", model), 2, "cannot be read")
    check_failure(run("infer", clip, "--model", model, "--model", model), 2, "twice")
    check_failure(run("infer", clip, "--model", model, "--redo", "broken"), 2, "--redo")
    check_failure(run("infer", clip, "--frames", "0", "--model", model), 2, "--frames")
    check_failure(run("watch", tmp_path / "gone", "--model", model), 2, "no such folder")


def test_the_newest_trained_model_is_taken_and_named(run: Callable[..., Result], clip: Path, model: Path) -> None:
    shutil.copytree(model.parent, Path("runs") / "mine")
    result = run("infer", clip, "--engine", "serial")
    assert result.exit_code == 0
    assert "model: runs/mine/model.safetensors" in result.stdout


def test_train_says_where_the_model_is_and_how_to_go_on(run: Callable[..., Result], faces: Path) -> None:
    quick = ["--config", "demo", "--set", "train.epochs=1", "--set", "train.image_size=64"]
    result = run("train", "--data", faces, *quick)
    assert result.exit_code == 0, result.output
    assert "validation AUC" in result.stdout
    (model,) = Path("runs").glob("*-demo/model.safetensors")
    assert f"model: {model}" in result.stdout
    assert "then: dfpipe infer clip.mp4\n" in result.stdout
    machine = run("train", "--data", faces, *quick, "--json", "--out", "other", "--device", "cpu")
    assert Path(json.loads(machine.stdout)["model"]).is_file()
    check_failure(run("train", "--data", faces, "--device", "quantum"), 2, "'quantum'")


def test_disk_full_and_memory_are_exit_5(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors themselves; that a full disk raises them is tested with a real one where one can be made."""
    for error in (MemoryError(), OSError(28, "No space left on device")):

        def fail(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("dfpipe.preprocess.extract.extract", fail)
        check_failure(run("extract", "--videos", "x"), 5)
    monkeypatch.setattr("dfpipe.preprocess.extract.extract", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    check_failure(run("extract", "--videos", "x"), 130, "interrupted")


def test_a_full_disk_stops_cleanly(run: Callable[..., Result], clip: Path, model: Path) -> None:
    """Files may not grow beyond 45 kB, as if the disk were full: the report does not fit, and nothing of it is left."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    words = ["infer", clip, "--model", model, "--engine", "serial", "--heatmap", "--out", "v"]
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (45_000, before[1]))
        result = run(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    check_failure(result, 5, "no space left")
    assert not list(Path("v").glob("*/"))
    assert Path("v/verdicts.jsonl").read_text() == ""
    assert run(*words).exit_code == 0  # with space again, the same command goes on


def test_bugs_are_not_hidden(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfpipe.preprocess.extract.extract", lambda *_, **__: 1 / 0)
    result = run("extract", "--videos", "x")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def test_every_error_has_an_exit_code_of_the_table() -> None:
    def tree(kind: type[DfpipeError]) -> list[type[DfpipeError]]:
        return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]

    assert {kind.exit_code for kind in tree(DfpipeError)} <= {1, 2, 3, 4, 5, 130}
    for code in (0, 1, 2, 3, 4, 5, 130):
        assert f"{code} " in cli.EXIT_CODES
