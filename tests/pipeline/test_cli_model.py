"""`dfpipe model`, and the commands that train several models, through click's own runner."""

import json
import shutil
from pathlib import Path

import onnxruntime
import pytest
from click.testing import CliRunner, Result

from dfpipe.cli import main
from dfpipe.files import sha256_file
from dfpipe.infer.record import EVALUATIONS, record, record_shipped
from dfpipe.train.modelfile import load_model

FAST = [
    "--config",
    "demo",
    "--set",
    "train.model=simple_cnn",
    "--set",
    "train.image_size=32",
    "--set",
    "train.epochs=1",
]


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_show_tells_what_a_person_wants_to_know(model: Path) -> None:
    result = run("model", "show", model)
    assert result.exit_code == 0, result.output
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    for part in (
        model.parent.name,
        sha256_file(model),
        "tf_efficientnet_lite0",
        "one output (sigmoid)",
        "112 x 112 px",
        "mtcnn, 1.3 x the face box",
        "FAKE from 0.6, REAL below 0.4, threshold 0.5: conventions",
        "auc ",
        "real,",
        "ImageNet weights",
        "dfpipe 0.",
    ):
        assert part in result.stdout, part


def test_show_tells_figures_of_kinds_of_input_and_where_the_rest_is(model: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(model, tmp_path / "own.safetensors"))
    record(own, EVALUATIONS, {"fingerprint": "a", "split": "test", "datasets": ["made"]})
    record_shipped(own, {"crops": {"auc": 0.91, "n": 12}})
    result = run("model", "show", own)
    assert result.exit_code == 0, result.output
    assert "measured on made: see 'dfpipe model card'" in " ".join(result.stdout.split())
    assert "crops: auc 0.91, n 12" in result.stdout


def test_pack_says_what_it_did(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed.safetensors"
    result = run("model", "pack", model, "--out", out, "--licence", "research use")
    assert result.exit_code == 0, result.output
    assert "p_fake moves by" in result.stdout
    told = json.loads(run("model", "pack", model, "--out", out, "--json").stdout)
    assert told["path"] == str(out)
    assert told["bytes"] == out.stat().st_size


def test_show_as_json(model: Path) -> None:
    told = json.loads(run("model", "show", model, "--json").stdout)
    loaded = load_model(model)
    assert told["sha256"] == loaded.sha256
    assert told["bytes"] == model.stat().st_size
    assert told["parameters"] == sum(p.numel() for p in loaded.network.parameters())
    assert told["faces"]["crop_scale"] == pytest.approx(1.3)
    assert told["calibration"] is None
    assert told["metrics"] == loaded.card.metrics


def test_show_of_no_model_is_exit_4(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_text("x")
    result = run("model", "show", tmp_path / "m.safetensors")
    assert result.exit_code == 4
    assert "not a model file" in result.output


def test_crossval_tune_and_export(faces: Path, elsewhere: Path) -> None:
    folds = run("crossval", "--data", faces, *FAST, "--folds", "2", "-q")
    assert folds.exit_code == 0, folds.output
    assert all(len(line) <= 80 for line in folds.stdout.splitlines() if not line.startswith(("table", "next")))
    (folder,) = Path("runs").glob("*-crossval-demo")
    assert f"table: {folder}/crossval.csv" in folds.stdout
    assert f"next: dfpipe train --config demo --data {faces}" in folds.stdout
    again = run("crossval", "--resume", folder, "--json", "-q")
    assert json.loads(again.stdout) == json.loads((folder / "crossval.json").read_text())

    search = run("tune", "--data", faces, *FAST, "--trials", "1", "-q")
    assert search.exit_code == 0, search.output
    assert "train.learning_rate = " in search.stdout
    assert f"next: dfpipe train --config runs/tune-demo/best.yaml --data {faces}" in search.stdout
    told = json.loads(run("tune", "--data", faces, *FAST, "--trials", "1", "-q", "--json").stdout)
    assert told["best"]["trial"] == 1

    model = next(folder.glob("fold_1/*/model.safetensors"))
    written = run("model", "export", model, "--onnx", "out.onnx", "--data", faces)
    assert written.exit_code == 0, written.output
    assert "validation crops" in written.stdout
    assert onnxruntime.InferenceSession("out.onnx").get_outputs()[0].name == "logit"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["crossval", "--folds", "1"], "--folds"),
        (["crossval", "--resume", "x", "--folds", "4"], "leave out --config"),
        (["crossval", "--resume", "x"], "crossval.json is missing"),
        (["crossval"], "dfpipe extract"),
        (["tune"], "--trials"),
        (["tune", "--trials", "2", "--param", "train.epoch=1..2"], "did you mean 'epochs'"),
        (["tune", "--trials", "2"], "dfpipe extract"),
        (["model", "export", "x"], "--onnx"),
        (["model", "shw"], "shw"),
    ],
)
def test_bad_usage_is_exit_2(words: list[str], part: str, elsewhere: Path) -> None:
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert part in result.output
    assert not list(elsewhere.iterdir())


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for words in (["crossval"], ["tune", "--trials", "2"]):
        result = run(*words)
        assert result.exit_code == 2
        assert "leave out torchrun" in result.output
