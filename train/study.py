"""What Optuna knows of a search, in one SQLite file."""

import importlib
import sqlite3
from pathlib import Path
from typing import Any

from dfpipe.errors import DataError
from dfpipe.extras import need
from dfpipe.files import disk_errors
from dfpipe.train.trialreport import less_is_better

# Drawn at random and never pruned: the default of Optuna's MedianPruner; its TPE has 10, much of a search of 20.
FREE_TRIALS = 5
FREE_EPOCHS = 1  # of every trial: while the learning rate rises, validation says little


def optuna() -> Any:
    """The library.

    Raises:
        UsageError: It is not installed.
    """
    need("tune", "train", ["optuna"])
    return importlib.import_module("optuna")


def open_study(path: Path, fingerprint: str, monitor: str) -> Any:
    """The study in a file, made if it is not there.

    Args:
        path: SQLite file.
        fingerprint: Of everything by which its trials can be compared.
        monitor: What they are compared by.

    Raises:
        DataError: The file cannot be read, or holds another study.
    """
    library = optuna()
    library.logging.set_verbosity(library.logging.WARNING)
    # A path in a database URL is cut at "?", so the file is opened here.
    with disk_errors(path.parent):
        try:
            storage = library.storages.RDBStorage(
                "sqlite://", engine_kwargs={"creator": lambda: sqlite3.connect(path, check_same_thread=False)}
            )
            direction = "minimize" if less_is_better(monitor) else "maximize"
            pruner = library.pruners.MedianPruner(n_startup_trials=FREE_TRIALS, n_warmup_steps=FREE_EPOCHS + 1)
            study = library.create_study(
                storage=storage, study_name="dfpipe", load_if_exists=True, direction=direction, pruner=pruner
            )
        except Exception as error:  # SQLAlchemy's errors and Optuna's have no base in common
            raise DataError(f"{path} cannot be read ({error}): choose another --out") from error
    if study.user_attrs.setdefault("fingerprint", fingerprint) != fingerprint:
        raise DataError(
            f"{path.parent} holds a search with other data, another config or other --param: choose another --out"
        )
    study.set_user_attr("fingerprint", fingerprint)
    return study


def forget_killed(study: Any) -> None:
    """Ends the trials that a killed session left running; without a reason, they do not count."""
    for trial in study.trials:
        if not trial.state.is_finished():
            study.tell(trial.number, state=type(trial.state).FAIL)
