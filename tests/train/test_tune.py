"""The search: what may be searched, that it goes on, and what it leaves behind."""

import csv
import dataclasses
import sys
from pathlib import Path

import optuna
import pytest

from dfpipe.config import Config, StageConfig, load_config
from dfpipe.errors import ConfigError, DataError, ResourceError, UsageError
from dfpipe.train import tune as room
from dfpipe.train.card import read_card
from dfpipe.train.loop import train
from dfpipe.train.search import DEFAULT, RATE, Search, changed, parse
from dfpipe.train.trialplots import history, scatter
from dfpipe.train.trialreport import Row, best_of, text
from dfpipe.train.tune import BEST, HISTORY, STUDY, TABLE, Tuned, tune

FAST = ("train.model=simple_cnn", "train.image_size=32", "train.pretrained=none", "train.augment=none")
PARAMS = ["train.learning_rate=1e-4..1e-2:log", "train.batch_size=8..32", "train.balance=label,none"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("demo", [*FAST, "train.epochs=1"])


@pytest.fixture(scope="module")
def study(faces: Path, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """Two trials in a folder with a difficult name."""
    return tune(config, faces, tmp_path_factory.mktemp("a ?study #ü") / "s", 2, PARAMS, "demo", "cpu")


# ---- what is searched ------------------------------------------------------------------------------------------------


def test_ranges_take_the_type_of_the_setting() -> None:
    config = load_config("default")
    assert parse(DEFAULT, config) == Search(RATE, 1e-5, 1e-2, log=True)
    assert parse("train.batch_size=16..64", config) == Search("train.batch_size", 16, 64, whole=True)
    assert parse("train.augment=light,none", config) == Search("train.augment", choices=("light", "none"))
    assert parse("train.head.dropout=0,0.5", config) == Search("train.head.dropout", choices=(0.0, 0.5))
    assert parse("train.weight_decay=1e-4,1e-2", config).choices == (1e-4, 1e-2)
    assert parse("train.free=frozen,last 2", config).choices == ("frozen", "last 2")


@pytest.mark.parametrize(
    ("param", "part"),
    [
        ("train.weight_decy=1..2", "did you mean 'weight_decay'"),
        ("train.hed.dropout=0..1", "did you mean 'head'"),
        ("train.epochs.deep=1..2", "whole number"),
        ("train.head=1..2", "single number or word"),
        ("train.batch_size=16..64.5", "whole numbers"),
        ("train.batch_size=64..16", "must be below"),
        ("train.batch_size=0..16", "at least 1"),
        ("train.batch_size=8,x", "whole number"),
        ("train.learning_rate=nan..1", "must be below"),
        ("train.learning_rate=0..1:log", "begins above 0"),
        ("train.learning_rate=1..2:lin", "only :log"),
        ("train.learning_rate=1..2..3", "two numbers"),
        ("train.augment=lite,none", "did you mean 'light'"),
        ("train.augment=1..2", "list its values"),
        ("train.augment=light", "two or more"),
        ("train.augment=[,]", "not a list"),
        ("train.head.dropout=0..1", "1 excluded"),
        ("train.monitor=auc,f1", "compared by"),
        ("preprocess.faces.frames=8..32", "only settings of training"),
        ("train.epochs", "KEY=LOW..HIGH"),
    ],
)
def test_an_impossible_search_is_named_before_the_first_trial(param: str, part: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=part):
        tune(load_config("default"), tmp_path / "no data", tmp_path / "study", 3, [param])
    assert not (tmp_path / "study").exists()


def test_a_setting_is_searched_once(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        tune(config, tmp_path, tmp_path / "study", 3, ["train.epochs=1,2", "train.epochs=3..4"])


def test_rates_of_phases_move_by_one_factor(config: Config) -> None:
    stages = (StageConfig(free="frozen", learning_rate=1e-4), StageConfig(learning_rate=1e-5), StageConfig())
    phased = config.with_train(stages=stages, learning_rate=1e-6)
    found = changed(phased, {RATE: 1e-3}).train
    assert [stage.learning_rate for stage in found.stages] == pytest.approx([1e-3, 1e-4, 0])
    assert found.learning_rate == pytest.approx(1e-5)
    assert changed(config, {RATE: 1e-3}) == config.with_train(learning_rate=1e-3)
    every = phased.with_train(stages=tuple(dataclasses.replace(stage, epochs=2) for stage in stages))
    with pytest.raises(ConfigError, match="changes nothing"):
        parse("train.epochs=1..9", every)
    assert parse("train.epochs=1..9", phased).whole


# ---- the search ------------------------------------------------------------------------------------------------------


def test_what_a_search_leaves(study: Tuned, config: Config, faces: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader((study.folder / TABLE).open()))
    assert [(row["trial"], row["state"]) for row in rows] == [("1", "complete"), ("2", "complete")]
    best = max(rows, key=lambda row: float(row["value"]))
    assert study.best["trial"] == int(best["trial"])
    for row in rows:
        run = study.folder / row["run"]
        assert (run / "metrics.csv").is_file()
        assert (run / "model.safetensors").is_file() == (row is best)
        assert load_config(str(run / "config.yaml")).train.batch_size == int(row["train.batch_size"])
    for name in (HISTORY, *(f"{param.split('=')[0]}.png" for param in PARAMS)):
        assert (study.folder / name).read_bytes().startswith(PNG)
    found = load_config(str(study.folder / BEST))
    assert found == changed(config, {key: study.best[key] for key in study.keys})
    again = train(found, faces, tmp_path, BEST, "cpu")
    kept = read_card(study.folder / best["run"] / "model.safetensors").metrics["validation"]
    assert again.validation.items() <= kept.items()
    assert again.validation["auc"] == float(best["value"])


def test_a_killed_search_goes_on_as_it_would_have(study: Tuned, config: Config, faces: Path, tmp_path: Path) -> None:
    first = tune(config, faces, tmp_path / "s", 1, PARAMS, "demo", "cpu")
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 's' / STUDY}")
    optuna.load_study(study_name="dfpipe", storage=storage).ask()  # killed while it ran
    (first.folder / ".tmp-1-model.safetensors").write_text("half")
    rows = tune(config, faces, tmp_path / "s", 2, PARAMS, "demo", "cpu").trials
    assert [row["trial"] for row in rows] == [1, 3]
    assert not list(first.folder.rglob(".tmp-*"))
    compared = [RATE, "train.batch_size", "train.balance", "value"]
    assert [[row[key] for key in compared] for row in rows] == [[row[key] for key in compared] for row in study.trials]
    assert rows[0] == first.trials[0]
    assert tune(config, faces, tmp_path / "s", 2, PARAMS, "demo", "cpu").trials == rows  # nothing left to do


def test_another_search_is_not_gone_on_with(study: Tuned, config: Config, faces: Path) -> None:
    for other, params in ((config, PARAMS[:1]), (config.with_train(label_smoothing=0.1), PARAMS)):
        with pytest.raises(DataError, match="choose another --out"):
            tune(other, faces, study.folder, 3, params, "demo", "cpu")


def test_a_file_that_is_no_study(config: Config, faces: Path, tmp_path: Path) -> None:
    (tmp_path / STUDY).write_bytes(b"x" * 5000)
    with pytest.raises(DataError, match="cannot be read"):
        tune(config, faces, tmp_path, 1, [], "demo", "cpu")


def test_what_diverges_fails_and_the_others_go_on(config: Config, faces: Path, tmp_path: Path) -> None:
    params = ["train.learning_rate=1e-3,1e30"]  # seed 0 draws the second, then the first
    with pytest.raises(DataError, match=r"none of 1 trials came to an end; the last: the loss is no number"):
        tune(config, faces, tmp_path, 1, params, "demo", "cpu")
    first, second = tune(config, faces, tmp_path, 2, params, "demo", "cpu").trials
    assert (first[RATE], first["state"], first["value"]) == (1e30, "failed", None)
    assert (second[RATE], second["state"]) == (1e-3, "complete")


def test_out_of_memory_is_told_and_not_tried_twice(
    config: Config, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise ResourceError("it does not fit")

    with monkeypatch.context() as patched:
        patched.setattr(room, "train", full)
        with pytest.raises(ResourceError, match="it does not fit"):
            tune(config, faces, tmp_path, 2, PARAMS, "demo", "cpu")
    rows = tune(config, faces, tmp_path, 2, PARAMS, "demo", "cpu").trials
    assert [(row["state"], row["reason"]) for row in rows] == [("failed", "it does not fit"), ("complete", "")]


def test_what_is_worse_than_the_median_is_ended_early(faces: Path, tmp_path: Path) -> None:
    """After five trials that could not be better; the first epoch is never judged."""
    config = load_config("demo", [*FAST, "train.epochs=3", "train.monitor=loss", "train.early_stop=0"])
    params = ["train.learning_rate=1e-4..1e-3"]
    tune(config, faces, tmp_path, 1, params, "demo", "cpu")
    study = optuna.load_study(study_name="dfpipe", storage=f"sqlite:///{tmp_path / STUDY}")
    distributions = {RATE: optuna.distributions.FloatDistribution(1e-4, 1e-3)}
    for _ in range(5):
        values = {"value": 0.0, "intermediate_values": dict.fromkeys((1, 2, 3), 0.0)}
        study.add_trial(optuna.create_trial(params={RATE: 5e-4}, distributions=distributions, **values))
    done = tune(config, faces, tmp_path, 7, params, "demo", "cpu")
    assert (done.trials[0]["state"], done.trials[0]["epochs"]) == ("complete", 3)
    assert (done.trials[6]["state"], done.trials[6]["epochs"]) == ("pruned", 2)
    assert done.trials[6]["value"] == pytest.approx(0.69, abs=0.1)  # a loss as a person knows it
    assert done.best["value"] == 0
    run = next(tmp_path.glob("trials/0007/*"))
    assert (run / "metrics.csv").is_file()
    assert not [path for path in run.iterdir() if path.suffix in (".safetensors", ".pt")]


def test_without_optuna(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install 'dfpipe\[train\]'"):
        tune(config, tmp_path, tmp_path / "study", 1)


# ---- what it says ----------------------------------------------------------------------------------------------------

ROWS: list[Row] = [
    {"trial": 1, "state": "complete", "value": 0.7, RATE: 1e-3, "reason": ""},
    {"trial": 2, "state": "failed", "value": None, RATE: 9e-3, "reason": "diverged"},
    {"trial": 3, "state": "complete", "value": 0.6, RATE: 1e-4, "reason": ""},
    {"trial": 4, "state": "pruned", "value": 0.9, RATE: 1e-5, "reason": ""},
]


def test_the_best_is_complete_and_least_where_less_is_better() -> None:
    assert best_of(ROWS, "auc")["trial"] == 1
    assert best_of(ROWS, "loss")["trial"] == 3
    told = "\n".join(text(ROWS, [RATE], "auc"))
    assert "4 trials: 2 complete, 1 pruned, 1 failed" in told
    assert "0.7000" in told
    assert "4 looks" in told


def test_plots_show_trials_of_every_state() -> None:
    assert history(ROWS, "auc").startswith(PNG)
    assert history(ROWS[1:2], "auc").startswith(PNG)
    assert scatter(ROWS, "auc", Search(RATE, 1e-5, 1e-2, log=True)).startswith(PNG)
    assert scatter(ROWS, "auc", Search(RATE, choices=(1e-3, 9e-3, 1e-4, 1e-5))).startswith(PNG)
