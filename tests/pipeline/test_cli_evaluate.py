import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from dfpipe.cli import main


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    pq.write_table(
        pa.table({"media_id": list("abcd"), "label": [0, 0, 1, 1], "p_fake": [0.1, 0.6, 0.4, 0.9]}), tmp_path / "s"
    )
    return tmp_path / "s"


def test_scores_need_no_model(scores: Path, tmp_path: Path) -> None:
    done = run("evaluate", "--scores", scores, "--out", tmp_path / "out", "--resamples", 20)
    assert done.exit_code == 0, done.output
    assert "accuracy                          0.500" in done.output
    assert "| 0.750" in done.output  # the AUC by hand
    assert (tmp_path / "out" / "evaluation.html").is_file()


def test_json_is_what_metrics_json_holds(scores: Path, tmp_path: Path) -> None:
    done = run("evaluate", "--scores", scores, "--out", tmp_path / "out", "--resamples", 20, "--json")
    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_wrong_usage(scores: Path, tmp_path: Path) -> None:
    assert run("evaluate", "m.safetensors", "--scores", scores).exit_code == 2
    assert run("evaluate", "--out", tmp_path / "out").exit_code == 2
    assert run("evaluate", "--scores", tmp_path / "gone").exit_code == 2
    assert run("evaluate", tmp_path / "gone.safetensors", "--out", tmp_path / "out").exit_code == 4
    (tmp_path / "empty").mkdir()
    none = run("evaluate", tmp_path / "empty", "--out", tmp_path / "out")
    assert (none.exit_code, "no model file" in none.output) == (4, True)


def test_evaluate_and_calibrate(model: Path, faces: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(model, tmp_path / "own.safetensors"))
    done = run("calibrate", own, "--data", faces, "--threshold", "f1", "--json", "-q")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["calibration"]["rule"] == "f1"
    assert run("calibrate", own, "--data", faces, "--split", "test").exit_code == 2
    told = run("evaluate", own, model, "--data", faces, "--out", tmp_path / "out", "--resamples", 20, "-q")
    assert told.exit_code == 0, told.output
    assert "precision    recall  f1-score" in told.output
    leak = run("evaluate", own, "--data", faces, "--split", "train", "--out", tmp_path / "out")
    assert (leak.exit_code, "--leaks drop" in leak.output) == (2, True)


def test_model_card(model: Path, tmp_path: Path) -> None:
    shown = run("model", "card", model)
    assert shown.exit_code == 0, shown.output
    assert run("model", "card", model.parent, "--out", tmp_path / "card.md").exit_code == 0
    assert (tmp_path / "card.md").read_text().strip() == shown.output.strip()
    assert run("model", "card", tmp_path / "gone.safetensors").exit_code == 4
