"""Fine-tuning: a training that begins with the weights of a model file, and what that model has seen already."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dfpipe.cli import main
from dfpipe.config import Config
from dfpipe.errors import ConfigError, DataError, LeakError, ModelFileError
from dfpipe.infer.detector import Detector
from dfpipe.infer.embedded import embedded_model
from dfpipe.infer.ensemble import save_ensemble
from dfpipe.preprocess.manifest import CROPS_SCHEMA, MANIFEST, read_manifest, write_table
from dfpipe.train.card import read_card
from dfpipe.train.crossval import crossval
from dfpipe.train.loop import resume, train
from dfpipe.train.modelfile import load_model, save_model
from dfpipe.train.provenance import overlap
from dfpipe.train.rows import names_of

STILL = 1e-12  # a learning rate that changes nothing


def starting(config: Config, file: Path, **changes: Any) -> Config:
    """Begins with a model file, and is over soon."""
    return config.with_train(start_from=str(file), **{"epochs": 1, "samples_per_epoch": 8, **changes})


def split_again(faces: Path, folder: Path, splits: dict[str, str], every: int = 1) -> Path:
    """A copy of an extraction in which sources have changed sides, of those in a split the first of so many."""
    shutil.copytree(faces, folder)
    rows = pq.read_table(folder / MANIFEST).to_pylist()
    for old, new in splits.items():
        sources = sorted({row["group"] for row in rows if row["split"] == old})[::every]
        for row in rows:
            row["new"] = new if row["group"] in sources else row.get("new", row["split"])
    write_table(folder / MANIFEST, CROPS_SCHEMA, [{**row, "split": row.pop("new")} for row in rows])
    return folder


def test_it_begins_where_the_model_ended(faces: Path, model: Path, small_config: Config, tmp_path: Path) -> None:
    config = starting(small_config, model, free="frozen", learning_rate=STILL, ema=0.0)
    card = read_card(train(config, faces, tmp_path, "demo", "cpu").model)
    before = read_card(model)
    for name in ("auc", "log_loss"):
        assert card.metrics["validation"][name] == pytest.approx(before.metrics["validation"][name], abs=1e-6)
    origin = card.data["initial_weights"]
    assert before.name in origin
    assert load_model(model).sha256[:12] in origin
    assert before.data["initial_weights"] in origin


def test_it_knows_what_the_model_was_trained_on(faces: Path, model: Path, small_config: Config, tmp_path: Path) -> None:
    fresh = split_again(faces, tmp_path / "fresh", {"test": "train", "train": "test"})
    card = read_card(train(starting(small_config, model), fresh, tmp_path / "runs", "demo", "cpu").model)
    manifest = read_manifest(fresh)
    for split in ("train", "test"):  # its own, and those of the model that it began with
        groups, contents = names_of(manifest, manifest.rows_of(split))
        assert all(contents)
        assert overlap(card.data, {"groups": groups}) == sorted(set(groups))
        assert overlap(card.data, {"contents": filter(None, contents)}) == sorted(set(filter(None, contents)))
    groups, _ = names_of(manifest, manifest.rows_of("validation"))
    assert overlap(card.data, {"groups": groups}) == []


def test_it_is_not_validated_on_what_the_model_has_seen(
    faces: Path, model: Path, small_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen = split_again(faces, tmp_path / "seen", {"train": "validation"}, every=2)
    with caplog.at_level(logging.WARNING, "dfpipe"):
        card = read_card(train(starting(small_config, model), seen, tmp_path / "runs", "demo", "cpu").model)
    assert card.metrics["validation"]["crops"] == len(read_manifest(faces).rows_of("validation"))
    assert sum(card.data["crops"]["validation"].values()) == card.metrics["validation"]["crops"]
    assert "are of sources that" in caplog.text
    assert "left out" in caplog.text


def test_without_anything_to_validate_on(faces: Path, model: Path, small_config: Config, tmp_path: Path) -> None:
    swapped = split_again(faces, tmp_path / "swapped", {"train": "validation", "test": "train", "validation": "test"})
    with pytest.raises(DataError, match=r"(\d+) of \1 crops to validate on.*extract other sources"):
        train(starting(small_config, model), swapped, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_cross_validation_refuses_what_the_model_has_seen(
    faces: Path, model: Path, small_config: Config, tmp_path: Path
) -> None:
    with pytest.raises(LeakError, match="measure what it knows already"):
        crossval(starting(small_config, model), faces, tmp_path / "runs", 2)


def test_a_model_that_does_not_say_what_it_saw(
    faces: Path, model: Path, small_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent, opened = tmp_path / "silent.safetensors", load_model(model)
    save_model(silent, opened.network, replace(opened.card, data={}))
    with caplog.at_level(logging.WARNING, "dfpipe"):
        card = read_card(train(starting(small_config, silent), faces, tmp_path / "runs", "demo", "cpu").model)
    assert "does not say what it was trained on" in caplog.text
    assert overlap(card.data, {"groups": ["x"]}) is None


def test_an_interrupted_one_goes_on(faces: Path, model: Path, small_config: Config, tmp_path: Path) -> None:
    config = starting(small_config, model, epochs=2)

    def interrupt(epoch: int, validation: Any) -> None:
        raise KeyboardInterrupt

    whole = train(config, faces, tmp_path / "whole", "demo", "cpu")
    with pytest.raises(KeyboardInterrupt):
        train(config, faces, tmp_path / "runs", "demo", "cpu", on_epoch=interrupt)
    (folder,) = (tmp_path / "runs").iterdir()
    ended = read_card(resume(folder, "cpu").model)
    assert ended.metrics == read_card(whole.model).metrics
    assert ended.data == read_card(whole.model).data


def test_another_framing_is_said(
    faces: Path, small_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shipped = embedded_model()
    assert shipped is not None
    with caplog.at_level(logging.WARNING, "dfpipe"):
        train(starting(small_config, shipped), faces, tmp_path, "demo", "cpu")
    assert "faces cut to 0.83 times their box, and these are cut to 1.30" in caplog.text


def test_what_cannot_be_begun_with(faces: Path, model: Path, small_config: Config, tmp_path: Path) -> None:
    def refused(path: Path, **changes: Any) -> str:
        with pytest.raises((ConfigError, ModelFileError)) as caught:
            train(starting(small_config, path, **changes), faces, tmp_path / "runs")
        return str(caught.value)

    assert "set train.model=tf_efficientnet_lite0" in refused(model, model="resnet18", pretrained="none")
    head = replace(small_config.train.head, hidden=8)
    assert "train.head" in refused(model, head=head)
    assert "nothing.safetensors" in refused(tmp_path / "nothing.safetensors")
    shipped = embedded_model()
    assert shipped is not None
    members = {path.stem: Detector.load(path, "cpu") for path in (model, shipped)}
    save_ensemble(tmp_path / "both.safetensors", members, "both", "mean-logit", ([], 0.0))
    assert "ensemble" in refused(tmp_path / "both.safetensors")
    assert not (tmp_path / "runs").exists()


def test_the_command(faces: Path, small_config: Config, tmp_path: Path) -> None:
    fast = ["train.samples_per_epoch=8", "train.epochs=1", "train.loader_workers=0"]
    given = ["train", "--data", str(faces), "--out", str(tmp_path), *(x for each in fast for x in ("--set", each))]
    done = CliRunner().invoke(main, [*given, "--start-from", "embedded", "--device", "cpu", "-v"])
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.iterdir()
    card = read_card(folder / "model.safetensors")
    assert card.data["initial_weights"].startswith("dfpipe-default-")
    assert str(embedded_model()) in (folder / "config.yaml").read_text()
    again = CliRunner().invoke(main, ["train", "--resume", str(folder), "--start-from", "embedded"])
    assert again.exit_code == 2
    assert "leave out" in again.output
    assert "--start-from" in again.output
