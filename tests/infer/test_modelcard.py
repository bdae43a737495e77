import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from dfpipe.cli import main
from dfpipe.config import Config
from dfpipe.errors import ModelFileError
from dfpipe.infer.calibrate import calibrate
from dfpipe.infer.detector import Detector
from dfpipe.infer.modelcard import model_card
from dfpipe.infer.record import EVALUATIONS, SHIPPED, STRESS, record, record_shipped, shipped_record
from dfpipe.infer.summary import TITLES
from dfpipe.train.card import read_card
from dfpipe.train.modelfile import load_model, save_model


@pytest.fixture
def own(model: Path, tmp_path: Path) -> Path:
    """A model file that may be changed."""
    return Path(shutil.copy(model, tmp_path / "own.safetensors"))


def test_a_card_of_a_file_that_holds_little(own: Path) -> None:
    text = model_card(own)
    for heading in ("Training data", "Figures", "Under stress", "Threshold, band and calibration", "Limits", "Licence"):
        assert f"## {heading}\n" in text
    assert text.count("Not measured") == 2
    assert str(read_card(own).data["split_fingerprint"]) in text
    assert "conventions: they were not fitted" in text
    assert "states no licence" in text


def test_a_card_quotes_what_was_measured(own: Path, faces: Path, tmp_path: Path, small_config: Config) -> None:
    calibrate(Detector.load(own, "cpu"), faces, own, small_config, method="platt")
    out = tmp_path / "out"
    words = [
        "evaluate",
        str(own),
        "--data",
        str(faces),
        "--out",
        str(out),
        "--resamples",
        "20",
        "--record",
        "-q",
        "--json",
    ]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["models"].values()
    words = [
        "stress",
        str(own),
        "--data",
        str(faces),
        "--out",
        str(tmp_path / "stress"),
        "--resamples",
        "20",
        "--record",
    ]
    done = CliRunner().invoke(
        main, [*words, "--only", "jpeg", "--limit", "2", "--engine", "serial", "-q"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    text = model_card(own)
    clip = found["levels"]["clip"]
    assert f"| log loss | {clip['metrics']['log_loss']:.3f}" in text
    assert f"{clip['count']} clips" in text
    assert "| JPEG | quality 10 |" in text
    assert "Calibrated by platt" in text
    assert re.search(r"Of \d+ real inputs \d+ were called FAKE, \d+ UNCERTAIN, \d+ REAL\.", text)
    assert "Not measured" not in text


def test_figures_that_stand_beside_verdicts_open_the_card(own: Path) -> None:
    clip = {"metrics": {"auc": 0.9123, "log_loss": 0.3, "accuracy": 0.85, "recall": 0.7, "fpr": None, "eer": 0.1}}
    record_shipped(own, {"crops": shipped_record({**clip, "count": 12, "real": 6, "fake": 6}, "made <faces>")})
    assert read_card(own).metrics[SHIPPED]["crops"] == {
        **{"auc": 0.9123, "log_loss": 0.3, "accuracy": 0.85, "recall": 0.7, "fpr": None},
        **{"n": 12, "real": 6, "fake": 6, "measured_on": "made <faces>"},
    }
    assert "| crops | 12 | 0.912 | 0.300 | 0.850 | 0.700 | undefined | made \\<faces\\> |" in model_card(own)


def test_methods_are_told_apart(own: Path) -> None:
    metrics = dict.fromkeys(TITLES, 0.5)
    entry = {
        **{"data": "d", "datasets": ["d"], "split": None, "fingerprint": "f", "coverage": {"inputs": 4, "share": 1.0}},
        **{"count": 4, "real": 2, "fake": 2, "groups": 4, "threshold": 0.5, "leaks": "none found"},
        **{"metrics": metrics, "intervals": dict.fromkeys(metrics)},
        "verdicts": {"real": {"FAKE": 1, "UNCERTAIN": 0, "REAL": 1}, "fake": {"FAKE": 0, "UNCERTAIN": 0, "REAL": 0}},
        "methods": {
            "Face2Face": {
                **{"fake": 1, "metrics": {"auc": 0.25, "recall": 0.75}},
                "intervals": {"auc": [0.1, 0.4], "recall": None},
            }
        },
    }
    record(own, EVALUATIONS, entry)
    text = model_card(own)
    assert "| Face2Face | 1 | 0.250 (0.100 to 0.400) | 0.750 |" in text
    assert "Of 2 real inputs 1 were called FAKE, 0 UNCERTAIN, 1 REAL." in text
    assert "fake inputs" not in text


def test_figures_of_the_same_inputs_are_replaced_and_others_kept(own: Path) -> None:
    for fingerprint, value in (("a", 1), ("b", 2), ("a", 3)):
        record(own, STRESS, {"fingerprint": fingerprint, "split": "test", "value": value})
    assert [entry["value"] for entry in read_card(own).metrics[STRESS]] == [2, 3]
    assert "validation" in read_card(own).metrics


def test_calibrating_drops_figures_of_the_old_threshold(own: Path, faces: Path, small_config: Config) -> None:
    record(own, STRESS, {"fingerprint": "a", "split": "test"})
    record_shipped(own, {"crops": {"auc": 0.9}})
    calibrate(Detector.load(own, "cpu"), faces, own, small_config)
    assert set(read_card(own).metrics) == {"validation"}


def test_names_cannot_become_markup(own: Path) -> None:
    loaded = load_model(own)
    evil = "# <b>[x](javascript:1)|\n`"
    save_model(own, loaded.network, replace(loaded.card, name=evil, data={**loaded.card.data, "datasets": [evil]}))
    text = model_card(own)
    assert "<b>" not in text.replace("\\<b", "")
    assert "[x](" not in text.replace("\\[x\\](", "")
    assert text.splitlines()[0].startswith("# Model card: \\#")


def test_no_model_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError):
        model_card(tmp_path / "gone.safetensors")
