"""The tables of choices: where a name that a setting or flag holds is looked up, and which names are there."""

import importlib

from generate.words import code, table

TABLES = {  # setting or flag -> the table that it is looked up in
    "preprocess.faces.sampling": "preprocess.sampling.SAMPLINGS",
    "preprocess.faces.reader": "preprocess.readers.READERS",
    "preprocess.faces.detector": "preprocess.faces.DETECTORS",
    "train.model (beside timm's)": "train.cnns.CNNS",
    "train.normalise": "train.models.NORMALISATIONS",
    "train.optimizer": "train.optim.OPTIMIZERS",
    "train.schedule": "train.optim.SCHEDULES",
    "train.balance": "train.balance.BALANCES",
    "train.augment": "train.transforms.AUGMENTATIONS",
    "train.monitor": "train.validate.MONITORS",
    "infer.aggregate": "infer.aggregate.AGGREGATES",
    "--method of calibrate": "infer.calibration.METHODS",
    "--threshold of calibrate": "infer.calibration.THRESHOLDS",
    "--ensemble of evaluate": "train.ensemble.ENSEMBLES",
    "--only of stress": "infer.degradations.DEGRADATIONS",
    "--engine": "workers.ENGINES",
    "layouts of collections": "preprocess.layouts.LAYOUTS",
}


def text() -> str:
    """A row for each table."""
    return table(("what is chosen", "table", "names"), [_row(what, place) for what, place in TABLES.items()])


def _row(what: str, place: str) -> tuple[str, str, str]:
    module, _, name = place.rpartition(".")
    names = getattr(importlib.import_module(f"dfpipe.{module}"), name)
    first, space, rest = what.partition(" ")
    named = code(first) if "." in first or first.startswith("--") else first
    return named + space + rest, code(f"dfpipe.{place}"), ", ".join(code(each) for each in names)
