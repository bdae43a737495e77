from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from dfpipe.config import Config
from dfpipe.errors import ConfigError, DataError, LeakError
from dfpipe.infer.calibrate import calibrate
from dfpipe.infer.detector import Detector
from dfpipe.preprocess.manifest import read_inputs
from dfpipe.types import FaceBox, FaceCrop


@pytest.fixture(scope="module")
def detector(model: Path) -> Detector:
    return Detector.load(model, "cpu")


def test_it_lies_in_the_model_file_with_its_data(
    detector: Detector, faces: Path, tmp_path: Path, small_config: Config
) -> None:
    done = calibrate(detector, faces, tmp_path / "c.safetensors", small_config, method="platt", rule="fpr=0.1")
    card = Detector.load(done.model, "cpu").model.card
    kept = card.calibration
    assert kept is not None
    assert (kept["method"], kept["rule"], kept["fitted_on"]["split"]) == ("platt", "fpr=0.1", "validation")
    assert kept["fitted_on"]["clips"] == sum(r["split"] == "validation" for r in read_inputs(faces))
    assert len(kept["fitted_on"]["fingerprint"]) == 64
    assert card.band[0] <= card.threshold <= card.band[1]
    assert {"log_loss", "ece"} <= set(kept["before"]) & set(kept["after"])


def test_inference_uses_it(detector: Detector, faces: Path, tmp_path: Path, small_config: Config) -> None:
    done = calibrate(detector, faces, tmp_path / "c.safetensors", small_config, method="platt")
    crop = FaceCrop(
        0, 0.0, 0, FaceBox(0, 0, 1, 1, 1), np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    )
    (raw,), (calibrated,) = detector.score([crop]), Detector.load(done.model, "cpu").score([crop])
    line = done.calibration
    expected = expit(line["scale"] * logit(raw.p_fake) + line["offset"])
    assert calibrated.p_fake == pytest.approx(expected, abs=1e-6)


def test_an_earlier_calibration_is_replaced_not_piled_up(
    detector: Detector, faces: Path, tmp_path: Path, small_config: Config
) -> None:
    first = calibrate(detector, faces, tmp_path / "c.safetensors", small_config)
    again = calibrate(Detector.load(first.model, "cpu"), faces, first.model, small_config)
    assert again.calibration == first.calibration


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_train_and_test_are_refused(
    detector: Detector, faces: Path, tmp_path: Path, small_config: Config, split: str
) -> None:
    with pytest.raises(LeakError, match="not fitted on split"):
        calibrate(detector, faces, tmp_path / "c.safetensors", small_config, split=split)
    assert not list(tmp_path.iterdir())


def test_groups_that_were_trained_on_are_refused(
    detector: Detector, faces: Path, tmp_path: Path, small_config: Config
) -> None:
    from dfpipe.preprocess.groups import group_key
    from dfpipe.train.provenance import trained_on

    row = next(r for r in read_inputs(faces) if r["split"] == "validation")
    seen = trained_on([group_key(row["dataset"], row["group"])])
    card = replace(detector.model.card, data={**detector.model.card.data, "trained_on": seen})
    leaky = Detector(replace(detector.model, card=card))
    with pytest.raises(LeakError, match=row["group"]):
        calibrate(leaky, faces, tmp_path / "c.safetensors", small_config)


def test_unknown_method_and_rate(detector: Detector, faces: Path, tmp_path: Path, small_config: Config) -> None:
    with pytest.raises(ConfigError, match="temperature"):
        calibrate(detector, faces, tmp_path / "c.safetensors", small_config, method="magic")
    with pytest.raises(DataError, match="makes no sense"):
        calibrate(detector, faces, tmp_path / "c.safetensors", small_config, error_rate=0.7)
