import io
import json
from pathlib import Path

import pytest
from PIL import Image

from dfpipe.train.curves import curves
from dfpipe.train.runlog import BOARD, CURVES, METRICS, RunLog, describe_run, read_description, read_metrics, versions

ROW = {"epoch": 1, "phase": 1, "train_loss": 0.7, "validation_auc": None, "learning_rate": 1e-05, "best_so_far": True}


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    rows = [ROW, {**ROW, "epoch": 2, "validation_auc": 0.75, "best_so_far": False}]
    for row in rows:
        log.add(row)
    log.close()
    assert read_metrics(tmp_path) == rows
    with Image.open(tmp_path / CURVES) as picture:
        assert picture.size[0] > 500


def test_a_resumed_run_forgets_rows_after_its_state(tmp_path: Path) -> None:
    first = RunLog(tmp_path)
    for epoch in (1, 2, 3):
        first.add({**ROW, "epoch": epoch})
    second = RunLog(tmp_path, finished=1)
    second.add({**ROW, "epoch": 2, "train_loss": 0.5})
    assert [(row["epoch"], row["train_loss"]) for row in read_metrics(tmp_path)] == [(1, 0.7), (2, 0.5)]


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = RunLog(tmp_path)
    log.add(ROW)
    log.add({**ROW, "epoch": 2, "train_loss": 0.25})
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path / BOARD))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(1, pytest.approx(0.7)), (2, 0.25)]


def test_metrics_that_are_undefined_draw_nothing() -> None:
    with Image.open(io.BytesIO(curves([ROW]))) as picture:
        picture.load()


def test_the_description_grows(tmp_path: Path) -> None:
    assert read_description(tmp_path) == {}
    describe_run(tmp_path, {"a": 1, "b": 2})
    describe_run(tmp_path, {"b": 3})
    assert read_description(tmp_path) == {"a": 1, "b": 3}
    (tmp_path / "run.json").write_text("{")
    assert read_description(tmp_path) == {}


def test_versions_are_those_that_are_installed() -> None:
    import torch

    assert torch.__version__.startswith(versions()["torch"])  # which may add a build, as +cpu
    json.dumps(versions())


def test_no_file_no_rows(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    assert not (tmp_path / METRICS).exists()
