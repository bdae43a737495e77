"""Search for settings: many short trainings, each with other values, compared by validation.

Optuna proposes the values with the tree-structured Parzen estimator (Bergstra et al., "Algorithms for hyper-parameter
optimization", NIPS 2011) and ends early what does worse than the median of the trials before it at the same epoch
(Golovin et al., "Google Vizier", KDD 2017). Everything it knows lies in SQLite in the study's folder, so a search that was
killed goes on.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np

from dfpipe.config import Config, to_yaml
from dfpipe.errors import ConfigError, DataError, ResourceError
from dfpipe.files import atomic_file, disk_errors, locked, sweep
from dfpipe.preprocess.manifest import read_manifest
from dfpipe.train.checkpoint import forget_state
from dfpipe.train.loop import Trained, train
from dfpipe.train.rows import fingerprint, training_rows
from dfpipe.train.search import DEFAULT, Search, changed, parse
from dfpipe.train.study import FREE_TRIALS, forget_killed, open_study, optuna
from dfpipe.train.trialplots import history, scatter
from dfpipe.train.trialreport import Row, best_of, less_is_better, table, value_text
from dfpipe.train.validate import Metrics, goodness

log = logging.getLogger(__name__)

STUDY, TRIALS, TABLE, BEST, HISTORY = "study.sqlite", "trials", "trials.csv", "best.yaml", "history.png"


@dataclass(frozen=True)
class Tuned:
    """How a search ended."""

    folder: Path
    trials: list[Row]  # as in trials.csv
    best: Row
    metric: str
    keys: list[str]  # what was searched

    @property
    def config(self) -> Path:
        """A config file with the best values."""
        return self.folder / BEST


@dataclass(frozen=True)
class _Job:
    """What a search is about."""

    config: Config
    data: Path
    folder: Path
    recipe: str
    device: str
    searches: Sequence[Search]
    study: Any


def tune(
    config: Config,
    data: Path,
    folder: Path,
    trials: int,
    params: Sequence[str] = (),
    recipe: str = "default",
    device_name: str = "auto",
) -> Tuned:
    """Runs trials until `trials` of them are finished: complete, pruned or failed. Those that were killed do not count.

    Args:
        config: From which every trial starts; `train.monitor` says what is best.
        data: Folder of extracted faces.
        folder: Of the study; a study that is there goes on.
        trials: Finished ones in all, with those of earlier sessions.
        params: What is searched, as `search.parse` reads it; none = the learning rate.
        recipe: Name of the config.
        device_name: See `pick_device`.

    Returns:
        All trials and the best.

    Raises:
        SourceError: No manifest there.
        DataError: Nothing to train or validate on, another study in the folder, or no trial came to an end.
        ConfigError: An impossible search, or no Optuna.
        ResourceError: Out of memory or disk.
    """
    optuna()
    searches = [parse(text, config) for text in params or [DEFAULT]]
    if len({search.key for search in searches}) < len(searches):
        raise ConfigError("--param names a setting twice: name it once")
    manifest = read_manifest(data)
    known = [fingerprint(manifest, training_rows(manifest)), to_yaml(config), *map(repr, searches)]
    with locked(folder):
        sweep(folder, deep=True)
        study = open_study(folder / STUDY, hashlib.sha256("\n".join(known).encode()).hexdigest(), config.train.monitor)
        job = _Job(config, data, folder, recipe, device_name, searches, study)
        forget_killed(study)
        try:
            with _told(folder):
                while (finished := len(_rows(job))) < trials:
                    log.info("%d of %d trials are finished", finished, trials)
                    _trial(job, finished)
                    _report(job)
        finally:
            _report(job)
            _draw(job)
        rows = _rows(job)
        return Tuned(folder, rows, best_of(rows, config.train.monitor), config.train.monitor, [s.key for s in searches])


def _trial(job: _Job, finished: int) -> None:
    """One training with values that Optuna proposes."""
    library = optuna()
    # From the seed and the number of finished trials alone, so that a study that was killed goes on as it would have.
    seed = int(np.random.SeedSequence([job.config.seed, finished]).generate_state(1)[0])
    job.study.sampler = library.samplers.TPESampler(seed=seed, n_startup_trials=FREE_TRIALS)
    trial = job.study.ask()
    values = {search.key: _suggest(trial, search) for search in job.searches}
    shown = ", ".join(f"{key} {value_text(value)}" for key, value in values.items())
    log.info("trial %d: %s", trial.number + 1, shown)
    try:
        trained = _train(job, trial, values)
    except library.TrialPruned:
        trial.set_user_attr("reason", "worse than the median of the trials before it")
        job.study.tell(trial, state=library.trial.TrialState.PRUNED)
    except (DataError, ResourceError) as error:
        log.warning("trial %d failed: %s", trial.number + 1, error)
        trial.set_user_attr("reason", str(error))
        job.study.tell(trial, state=library.trial.TrialState.FAIL)
        if isinstance(error, ResourceError):
            raise
    else:
        for name in ("epochs", "best_epoch"):
            trial.set_user_attr(name, getattr(trained, name))
        trial.set_user_attr("run", str(trained.model.parent.relative_to(job.folder)))
        job.study.tell(trial, _figure(trained.validation, job.config.train.monitor))


def _suggest(trial: Any, search: Search) -> Any:
    if search.choices:
        return trial.suggest_categorical(search.key, search.choices)
    if search.whole:
        return trial.suggest_int(search.key, int(search.low), int(search.high), log=search.log)
    return trial.suggest_float(search.key, search.low, search.high, log=search.log)


def _train(job: _Job, trial: Any, values: Row) -> Trained:
    """Trains, and stops where the pruner has seen enough.

    Raises:
        optuna.TrialPruned: There.
    """

    def on_epoch(epoch: int, validation: Metrics) -> None:
        trial.report(_figure(validation, job.config.train.monitor), epoch)
        if trial.should_prune():
            raise optuna().TrialPruned

    config, place = changed(job.config, values), job.folder / _place(trial)
    return train(config, job.data, place, job.recipe, job.device, on_epoch=on_epoch)


def _place(trial: Any) -> str:
    """Where in the study's folder a trial's run is. Numbers begin at 1 for people, at 0 for Optuna."""
    return f"{TRIALS}/{trial.number + 1:04d}"


def _figure(validation: Metrics, monitor: str) -> float:
    """What trials are compared by, as a person knows it."""
    value = goodness(validation, monitor)[0]
    return -value if less_is_better(monitor) else value


# ---- what came out ---------------------------------------------------------------------------------------------------


def _rows(job: _Job) -> list[Row]:
    """The finished trials."""
    rows: list[Row] = []
    for trial in job.study.trials:
        state = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}.get(trial.state.name)
        reason = trial.user_attrs.get("reason", "")
        if state is None or (state == "failed" and not reason):
            continue
        seen = trial.intermediate_values
        value = trial.value if state != "failed" else None
        rows.append(
            {
                "trial": trial.number + 1,
                "state": state,
                "value": value,
                **{search.key: trial.params[search.key] for search in job.searches},
                "epochs": trial.user_attrs.get("epochs", len(seen)),
                "best_epoch": trial.user_attrs.get("best_epoch"),
                "seconds": round(trial.duration.total_seconds(), 1),
                "run": trial.user_attrs.get("run", _place(trial)),
                "reason": reason,
            }
        )
    return rows


def _report(job: _Job) -> None:
    """Table and best config of the trials so far; model files of all but the best go."""
    rows = _rows(job)
    if not rows:
        return
    _write(job.folder / TABLE, table(rows).encode())
    metric = job.config.train.monitor
    if any(row["state"] == "complete" for row in rows):
        best = best_of(rows, metric)
        head = f"# The best of {len(rows)} trials: trial {best['trial']}, validation {metric} {best['value']:.4f}.\n"
        _write(job.folder / BEST, (head + to_yaml(changed(job.config, _values(job, best)))).encode())
        _tidy(job.folder, job.folder / best["run"])


def _draw(job: _Job) -> None:
    """Pictures of the trials so far."""
    rows, metric = _rows(job), job.config.train.monitor
    if util.find_spec("matplotlib") is None:
        log.info("no pictures: pip install 'dfpipe[train]'")
    elif rows:
        _write(job.folder / HISTORY, history(rows, metric))
        for search in job.searches:
            _write(job.folder / f"{search.key}.png", scatter(rows, metric, search))


def _values(job: _Job, row: Row) -> Row:
    return {search.key: row[search.key] for search in job.searches}


def _tidy(folder: Path, best: Path) -> None:
    """Drops the weights of all trials but one."""
    for path in (folder / TRIALS).glob("*/*/*"):
        if path.parent != best and path.suffix == ".safetensors":
            path.unlink()
    for run in (folder / TRIALS).glob("*/*"):
        if run != best:
            forget_state(run)


def _write(path: Path, content: bytes) -> None:
    with disk_errors(path.parent), atomic_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Says how to go on after an interruption."""
    try:
        yield
    except (KeyboardInterrupt, ResourceError):
        log.warning("finished trials are kept in %s; the same command with this --out goes on", folder)
        raise
