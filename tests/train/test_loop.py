import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dfpipe.config import Config, load_config
from dfpipe.errors import ConfigError, DataError, ResourceError, SourceError
from dfpipe.preprocess.manifest import CROPS_SCHEMA, MANIFEST, write_table
from dfpipe.train.card import read_card
from dfpipe.train.loop import train


def test_a_run_leaves_model_log_and_config(model: Path, small_config: Config) -> None:
    card = read_card(model)
    assert card.faces.crop_scale == pytest.approx(1.3)
    assert card.faces.frames == 6
    assert card.data["crops"]["train"]["real"] > 0
    assert len(card.data["split_fingerprint"]) == 64
    assert card.metrics["validation"]["auc"] is not None
    assert card.calibration is None
    rows = list(csv.DictReader((model.parent / "metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    best = rows[card.metrics["validation"]["epoch"] - 1]
    assert float(best["validation_auc"]) == pytest.approx(card.metrics["validation"]["auc"], abs=1e-6)
    assert load_config(str(model.parent / "config.yaml")) == small_config


def test_same_seed_same_weights(faces: Path, tmp_path: Path, small_config: Config, model: Path) -> None:
    again = train(small_config, faces, tmp_path, "demo", "cpu").model
    assert read_card(again).metrics == read_card(model).metrics


def changed(faces: Path, tmp_path: Path, change: dict[str, object], where: dict[str, object] | None = None) -> Path:
    """A copy of an extraction with other values in its manifest."""
    folder = tmp_path / "changed"
    shutil.copytree(faces, folder)
    rows = pq.read_table(folder / MANIFEST).to_pylist()
    for row in rows:
        if all(row[key] == value for key, value in (where or {}).items()):
            row.update(change)
    write_table(folder / MANIFEST, CROPS_SCHEMA, rows)
    return folder


@pytest.mark.parametrize(
    ("change", "where", "part"),
    [
        ({"label": 1}, None, "all crops of split 'train' are fake"),
        ({"label": 0}, None, "all crops of split 'train' are real"),
        ({"split": "train"}, None, "no crops in split 'validation'"),
        ({"split": "test"}, {"split": "train"}, "no crops in split 'train'"),
        ({"label": None}, {"split": "train"}, "have no label"),
        ({"crop": "crops/gone.jpg"}, {"split": "train"}, r"missing or damaged.*gone\.jpg"),
    ],
)
def test_data_that_cannot_be_trained_on(
    faces: Path,
    tmp_path: Path,
    small_config: Config,
    change: dict[str, object],
    where: dict[str, object] | None,
    part: str,
) -> None:
    with pytest.raises(DataError, match=part):
        train(small_config, changed(faces, tmp_path, change, where), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_no_data(tmp_path: Path, small_config: Config) -> None:
    with pytest.raises(SourceError, match="dfpipe extract"):
        train(small_config, tmp_path, tmp_path / "runs")


@pytest.mark.parametrize(
    "setting", ["augment", "balance", "optimizer", "schedule", "monitor", "precision", "normalise"]
)
def test_unknown_choices(faces: Path, tmp_path: Path, small_config: Config, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"train.{setting} 'wild'"):
        train(small_config.with_train(**{setting: "wild"}), faces, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_run_describes_itself(model: Path, faces: Path, small_config: Config) -> None:
    said = json.loads((model.parent / "run.json").read_text())
    assert said["data"] == str(faces)
    assert said["seed"] == small_config.seed
    assert said["training_data"]["split_fingerprint"] == read_card(model).data["split_fingerprint"]
    assert said["versions"]["torch"]
    assert said["seconds"] > 0
    assert said["validation"]["auc"] == read_card(model).metrics["validation"]["auc"]


def test_what_does_not_fit_into_memory_is_refused_before_the_first_epoch(
    faces: Path, tmp_path: Path, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfpipe.train.loop.free_bytes", lambda device: 2_000_000_000)
    with pytest.raises(ResourceError, match=r"free: use --set train\.batch_size="):
        train(small_config.with_train(image_size=224, batch_size=64), faces, tmp_path / "runs", device_name="cpu")
    assert not (tmp_path / "runs").exists()
