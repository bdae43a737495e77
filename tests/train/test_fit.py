"""The training run itself: updates, phases, choosing, and going on after a break."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dfpipe.config import Config, StageConfig, load_config
from dfpipe.errors import DataError, ResourceError
from dfpipe.preprocess.manifest import read_manifest
from dfpipe.train.card import read_card
from dfpipe.train.checkpoint import STATE, load_state
from dfpipe.train.ema import mover
from dfpipe.train.fit import LAST, MODEL, Fit
from dfpipe.train.loop import _prepare, resume, train
from dfpipe.train.models import FaceClassifier
from dfpipe.train.validate import MONITORS, goodness
from dfpipe.train.world import World

SMALL = {
    "model": "simple_cnn",
    "pretrained": "none",
    "image_size": 32,
    "batch_size": 8,
    "epochs": 3,
    "samples_per_epoch": 40,
    "learning_rate": 0.01,
    "optimizer": "sgd",
    "schedule": "constant",
    "augment": "none",
    "balance": "label",
    "early_stop": 0,
    "loader_workers": 0,
}


@pytest.fixture
def run(faces: Path, tmp_path: Path) -> Callable[..., Path]:
    """Trains with some settings; returns the run's folder."""

    def call(config: Config | None = None, **values: Any) -> Path:
        chosen = (config or load_config("demo")).with_train(**{**SMALL, **values})
        return train(chosen, faces, tmp_path / "runs", "small", "cpu").model.parent

    return call


def weights(folder: Path, name: str = LAST) -> dict[str, Tensor]:
    return load_file(folder / name)


def check_equal(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_joined_gradients_are_those_of_the_larger_batch(run: Callable[..., Path]) -> None:
    whole, joined = weights(run(batch_size=8)), weights(run(batch_size=4, accumulate=2))
    for key, tensor in whole.items():
        torch.testing.assert_close(joined[key], tensor, atol=1e-6, rtol=1e-4)


class Hungry(torch.nn.Module):
    """A network that runs out of memory when it gets more than some crops at once."""

    def __init__(self, inner: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.inner, self.most = inner, most

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits: Tensor = self.inner(images)
        return logits


def test_a_memory_error_halves_what_goes_through_at_once_and_changes_nothing_else(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = weights(run())
    entered = Fit._enter
    monkeypatch.setattr(Fit, "_enter", lambda self, stage: (entered(self, stage), _hungry(self, 3)))
    found = weights(run())
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, atol=1e-6, rtol=1e-4)
    assert [r.message for r in caplog.records if "out of memory" in r.message] == [
        "out of memory: from here on 4 crops at once, the gradients of a batch of 8 joined",
        "out of memory: from here on 2 crops at once, the gradients of a batch of 8 joined",
    ]


def _hungry(self: Fit, most: int) -> None:
    self.model = Hungry(self.model, most)


def test_not_even_one_crop_fits(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    entered = Fit._enter
    monkeypatch.setattr(Fit, "_enter", lambda self, stage: (entered(self, stage), _hungry(self, 0)))
    with pytest.raises(ResourceError, match="out of memory with 1 crops at once"):
        run()


def test_the_running_mean_is_what_is_kept(run: Callable[..., Path]) -> None:
    plain, mean = weights(run(epochs=1)), weights(run(epochs=1, ema=0.5))
    updates = 40 // 8
    assert updates == 5
    assert not torch.equal(plain["head.output.weight"], mean["head.output.weight"])


def test_the_running_mean_moves_as_stated() -> None:
    update = mover(0.9)
    mean = torch.zeros(2)
    update([mean], [torch.ones(2)], 0)
    assert mean.tolist() == pytest.approx([0.9] * 2)  # 1 - 1 / 10: short at first
    mean = torch.zeros(2)
    update([mean], [torch.ones(2)], 10_000)
    assert mean.tolist() == pytest.approx([0.1] * 2)


def test_clipping_bounds_the_whole_gradient(run: Callable[..., Path]) -> None:
    start = weights(run(epochs=1, samples_per_epoch=8, learning_rate=1e-12))
    moved = weights(run(epochs=1, samples_per_epoch=8, learning_rate=1.0, clip_norm=1e-3, weight_decay=0.0))
    length = torch.sqrt(sum((moved[key] - start[key]).square().sum() for key in start))  # type: ignore[arg-type]
    # Nesterov's first step is (1 + momentum) times the gradient.
    assert float(length) == pytest.approx(1.9e-3, rel=0.01)


def test_phases_free_more_and_more(run: Callable[..., Path]) -> None:
    phases = (StageConfig("frozen", 1), StageConfig("last 1", 2, 0.02))
    rows = list(csv.DictReader((run(stages=phases) / "metrics.csv").open()))
    assert [(row["epoch"], row["phase"], float(row["learning_rate"])) for row in rows] == [
        ("1", "1", 0.01),
        ("2", "2", 0.02),
        ("3", "2", 0.02),
    ]


def test_a_phase_trains_on_crops_of_its_own_size_and_validates_on_those_of_the_model(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[tuple[bool, int]] = []
    forward = FaceClassifier.forward

    def noted(self: FaceClassifier, images: torch.Tensor) -> torch.Tensor:
        sides.append((self.training, images.shape[-1]))
        return forward(self, images)

    monkeypatch.setattr(FaceClassifier, "forward", noted)
    phases = (StageConfig(epochs=1, image_size=48), StageConfig(epochs=1))
    run(model="mobilenetv3_small_050", pretrained="none", image_size=64, stages=phases)
    trained = [side for training, side in sides if training]
    assert trained == [48] * 5 + [64] * 5
    assert {side for training, side in sides if not training} == {48, 64}  # the memory check, and validation
    assert sides[-1] == (False, 64)


def test_a_phase_that_stalls_gives_way_to_the_next(run: Callable[..., Path]) -> None:
    folder = run(stages=(StageConfig("frozen", 5, 1e-12), StageConfig("all", 1)), early_stop=2, monitor="accuracy")
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["phase"] for row in rows][-1] == "2"
    assert len(rows) < 6


def test_figures_of_training_and_validation_per_epoch(run: Callable[..., Path]) -> None:
    folder = run(keep_epochs=(1, 3))
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    for split in ("train", "validation"):
        for name in ("loss", "accuracy", "precision", "recall", "f1", "auc", "log_loss"):
            assert f"{split}_{name}" in rows[0]
    assert float(rows[-1]["train_loss"]) == pytest.approx(float(rows[-1]["train_log_loss"]), abs=1e-5)
    assert float(rows[-1]["validation_loss"]) == pytest.approx(float(rows[-1]["validation_log_loss"]), abs=1e-5)
    names = {path.name for path in folder.iterdir()}
    assert {"epoch_1.safetensors", "epoch_3.safetensors", MODEL, LAST, "curves.png", "run.json", "config.yaml"} <= names
    assert not any(name.startswith("state") for name in names)
    assert read_card(folder / "epoch_1.safetensors").metrics["validation"]["epoch"] == 1
    check_last = weights(folder, "epoch_3.safetensors")
    assert all(torch.equal(check_last[key], tensor) for key, tensor in weights(folder).items())


@pytest.mark.parametrize("monitor", MONITORS)
def test_the_best_epoch_is_chosen_by_validation(monitor: str) -> None:
    good = {"auc": 0.9, "log_loss": 0.3, "accuracy": 0.8, "f1": 0.8}
    worse = {"auc": 0.8, "log_loss": 0.4, "accuracy": 0.7, "f1": 0.7}
    tie = {**good, "log_loss": 0.35}
    assert goodness(good, monitor) > goodness(worse, monitor)  # type: ignore[arg-type]
    assert goodness(good, monitor) > goodness(tie, monitor)  # type: ignore[arg-type]
    undefined = dict.fromkeys(good)
    assert goodness({**undefined, "log_loss": 0.2}, monitor) > goodness({**undefined, "log_loss": 0.3}, monitor)


# ---- breaks ----------------------------------------------------------------------------------------------------------

CHANGING = {
    "augment": "light",
    "ema": 0.9,
    "schedule": "one_cycle",
    "optimizer": "adamw",
    "accumulate": 2,
    "batch_size": 4,
}


def broken_at(
    update: int, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Path], tmp_path: Path, **values: Any
) -> Path:
    """A run that is interrupted at some update; returns its folder."""
    done = Fit._update
    count = 0

    def counted(self: Fit, window: Any) -> None:
        nonlocal count
        count += 1
        if count == update:
            raise KeyboardInterrupt
        done(self, window)

    with monkeypatch.context() as patched:
        patched.setattr(Fit, "_update", counted)
        with pytest.raises(KeyboardInterrupt):
            run(**values)
    return max((tmp_path / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)


# 5 updates an epoch: in the middle of the first and of the second epoch, and at the start of the third.
@pytest.mark.parametrize(("update", "minutes"), [(3, 1e-9), (8, 1e-9), (8, 10.0), (11, 10.0)])
def test_a_resumed_run_ends_with_the_same_weights(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, update: int, minutes: float
) -> None:
    stages = (StageConfig("frozen", 1), StageConfig("all", 2, 0.003))
    values: dict[str, Any] = {**CHANGING, "stages": stages, "checkpoint_minutes": minutes}
    config = load_config("demo", ["train.head.dropout=0.4"])
    values["head"] = config.train.head
    whole = run(**values)
    folder = broken_at(update, monkeypatch, run, tmp_path, **values)
    if minutes < 1:
        assert load_state(folder)[0].batch > 0 or update == 11
    done = resume(folder, "cpu")
    assert done.epochs == 3
    check_equal(folder, whole)
    ours, theirs = (
        [{k: v for k, v in row.items() if k not in ("images_per_s", "loader_share", "seconds")} for row in rows]
        for rows in (list(csv.DictReader((f / "metrics.csv").open())) for f in (folder, whole))
    )
    assert ours == theirs


def test_started_again_by_torchrun_a_run_goes_on_and_ends_once(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = run(**CHANGING)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 7")
    folder = broken_at(8, monkeypatch, run, tmp_path, **CHANGING)
    assert run(**CHANGING) == folder
    check_equal(folder, whole)
    made = folder / MODEL
    written = made.stat().st_mtime_ns
    assert run(**CHANGING) == folder  # started once more after its end
    assert made.stat().st_mtime_ns == written
    assert run(**{**CHANGING, "learning_rate": 0.02}) != folder  # another training of the same job
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job 8")
    assert run(**CHANGING) != folder
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # what torchrun calls every start without an id
    assert run(**CHANGING) != run(**CHANGING)


def test_an_epoch_that_is_too_short_for_all_processes_is_refused(faces: Path) -> None:
    config = load_config("demo").with_train(**{**SMALL, "samples_per_epoch": 2})
    cpu = torch.device("cpu")
    task, network = _prepare(config, faces, cpu, World(), None)
    with pytest.raises(DataError, match="an epoch of 2 crops is too short for 3 processes"):
        Fit(task, network, cpu, World(0, 3))


def test_a_run_that_has_ended_is_not_resumed(run: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the run has ended"):
        resume(run(epochs=1), "cpu")
    with pytest.raises(DataError, match="cannot be resumed"):
        resume(tmp_path, "cpu")


def test_a_changed_config_or_state_is_refused(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = broken_at(7, monkeypatch, run, tmp_path)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("learning_rate: 0.01", "learning_rate: 0.02"))
    with pytest.raises(DataError, match="other data or with another config"):
        resume(folder, "cpu")
    (folder / "config.yaml").write_text(text)
    whole = (folder / STATE).read_bytes()
    (folder / STATE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is damaged"):
        resume(folder, "cpu")


def test_changed_data_are_refused(
    faces: Path, run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = broken_at(7, monkeypatch, run, tmp_path)
    manifest = read_manifest(faces)
    manifest.columns["label"][manifest.rows_of("train")[0]] ^= 1
    monkeypatch.setattr("dfpipe.train.loop.read_manifest", lambda data: manifest)
    with pytest.raises(DataError, match="other data or with another config"):
        resume(folder, "cpu")


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_what_was_good(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = Fit._update
    count = 0

    def poisoned(self: Fit, window: Any) -> None:
        nonlocal count
        count += 1
        if count == 7:
            window = [(images * float("nan"), labels) for images, labels in window]
        done(self, window)

    monkeypatch.setattr(Fit, "_update", poisoned)
    with pytest.raises(DataError, match=r"no number any more in epoch 2: lower .* the weights of epoch 1 are kept"):
        run()
    (folder,) = (tmp_path / "runs").iterdir()
    assert all(torch.isfinite(tensor).all() for tensor in weights(folder, MODEL).values())
