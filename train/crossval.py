"""K-fold cross-validation by source: every crop of train and validation is scored once by a model that never saw its source.

In each turn one fold is held out and scored once, at the end. The epoch whose weights are kept is chosen on a part of the
other folds, never on the fold that is held out: the best of several looks at the same crops is better than the model is
(Cawley and Talbot, "On over-fitting in model selection and subsequent selection bias in performance evaluation", JMLR 11,
2010). Published k-fold figures often choose the epoch on the very fold that they report. The test split stays untouched.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import confusion_matrix

from dfpipe.config import Config, load_config, to_mapping, to_yaml
from dfpipe.errors import DataError, LeakError, ResourceError
from dfpipe.files import atomic_file, disk_errors, locked, sweep
from dfpipe.preprocess.manifest import Manifest, read_manifest
from dfpipe.preprocess.mirror import here, source_of
from dfpipe.store import place
from dfpipe.train.dataset import CropDataset
from dfpipe.train.devices import pick_device
from dfpipe.train.foldreport import CONFUSION, METRICS, Figures, joined, table
from dfpipe.train.folds import HELD_OUT, Fold, fold_rows
from dfpipe.train.loader import loader
from dfpipe.train.loop import CONFIG, Trained, run_folder, train
from dfpipe.train.modelfile import load_model
from dfpipe.train.openmodel import Model
from dfpipe.train.rows import fingerprint
from dfpipe.train.runlog import hardware, versions
from dfpipe.train.start import start_of, unseen
from dfpipe.train.validate import loss_and_metrics, scored

log = logging.getLogger(__name__)

RESULT, TABLE = "crossval.json", "crossval.csv"


@dataclass(frozen=True)
class _Job:
    """What a cross-validation is about."""

    config: Config
    data: Path
    manifest: Manifest
    folds: Sequence[Fold]
    recipe: str
    fingerprint: str  # of folds and config


def crossval(
    config: Config, data: Path, out: Path, folds: int = 3, recipe: str = "default", device_name: str = "auto"
) -> Path:
    """Trains and scores one model per fold.

    Args:
        config: Settings; `train` and `seed` matter here.
        data: Folder of extracted faces.
        out: Folder of runs; this one gets a folder of its own in it.
        folds: How many, at least 2.
        recipe: Name of the config, for the name of the run.
        device_name: See `pick_device`.

    Returns:
        The folder, with `RESULT` and `TABLE` in it.

    Raises:
        SourceError: No manifest there.
        DataError: Too few sources, or as `train`.
        ConfigError, ResourceError: As `train`.
    """
    job = _job(config, data, folds, recipe)
    folder = run_folder(out, f"crossval-{Path(recipe).stem}")
    (folder / CONFIG).write_text(to_yaml(config), encoding="utf-8")
    known = {
        "recipe": recipe,
        "data": source_of(data.resolve()),
        "folds": folds,
        "seed": config.seed,
        "device": hardware(pick_device(device_name)),
        "versions": versions(),
        "config": to_mapping(config),
        "fingerprint": job.fingerprint,
        "results": [],
    }
    return _run(job, folder, known, device_name)


def resume(folder: Path, device_name: str = "auto") -> Path:
    """Goes on with a cross-validation that was interrupted; finished folds are not trained again.

    Args:
        folder: That `crossval` made. Its config and its data are used.
        device_name: See `pick_device`.

    Returns:
        The folder.

    Raises:
        DataError: None was begun there, or its data or config changed.
        ConfigError, ResourceError: As `crossval`.
    """
    known = read_result(folder)
    with here(place(str(known["data"]))) as data:
        job = _job(load_config(str(folder / CONFIG)), data, int(known["folds"]), str(known["recipe"]))
        if job.fingerprint != known["fingerprint"]:
            raise DataError(f"{folder} was made with other data or with another config: cross-validate anew")
        log.info("%d of %d folds are finished", len(known["results"]), known["folds"])
        return _run(job, folder, known, device_name)


def read_result(folder: Path) -> dict[str, Any]:
    """What `RESULT` says.

    Raises:
        DataError: There is none, or a damaged one.
    """
    try:
        values: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"no cross-validation can be read in {folder}: {RESULT} is missing or damaged") from error
    return values


def _job(config: Config, data: Path, count: int, recipe: str) -> _Job:
    manifest = read_manifest(data)
    folds = fold_rows(manifest, count, config.seed)
    if start := start_of(config.train):
        _check_unseen(start, manifest, folds)
    parts = [fingerprint(manifest, {"train": fold.rows["train"], "validation": fold.rows[HELD_OUT]}) for fold in folds]
    digest = hashlib.sha256("\n".join([*parts, to_yaml(config)]).encode()).hexdigest()
    return _Job(config, data, manifest, folds, recipe, digest)


def _check_unseen(start: Model, manifest: Manifest, folds: Sequence[Fold]) -> None:
    """Refuses first weights that have seen what is to be held out."""
    held_out = [row for fold in folds for row in fold.rows[HELD_OUT]]
    if seen := len(held_out) - len(unseen(start, manifest, held_out)):
        raise LeakError(
            f"{start.path} was trained on the sources of {seen} of {len(held_out)} crops, and cross-validation would "
            "measure what it knows already: leave out train.start_from, or extract other sources"
        )


def _run(job: _Job, folder: Path, known: dict[str, Any], device_name: str) -> Path:
    with locked(folder), _told(folder):
        sweep(folder, deep=True)
        _write(folder, known)
        for fold in job.folds[len(known["results"]) :]:
            log.info("fold %d of %d: %s crops", fold.number, len(job.folds), _sizes(fold))
            known["results"].append(_turn(job, fold, folder, device_name))
            _write(folder, known)
        known |= {"ended": True, **joined(known["results"])}
        _write(folder, known)
        with disk_errors(folder), atomic_file(folder / TABLE) as temporary:
            temporary.write_text(table(known), encoding="utf-8", newline="")
    return folder


def _sizes(fold: Fold) -> str:
    return ", ".join(f"{part.replace('_', ' ')} {len(rows)}" for part, rows in fold.rows.items())


def _turn(job: _Job, fold: Fold, folder: Path, device_name: str) -> dict[str, Any]:
    """Trains without one fold, then scores it."""
    place = folder / f"fold_{fold.number}"
    if place.exists():
        shutil.rmtree(place)  # of a turn that was interrupted
    rows = {part: fold.rows[part] for part in ("train", "validation")}
    trained = train(job.config, job.data, place, job.recipe, device_name, rows=rows)
    held_out = score(job.config, trained, job.manifest, fold.rows[HELD_OUT], pick_device(device_name))
    return {
        "fold": fold.number,
        "groups": dict(fold.groups),
        "crops": {part: len(members) for part, members in fold.rows.items()},
        "model": str(trained.model.relative_to(folder)),
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "seconds": round(trained.seconds, 1),
        "inner_validation": trained.validation,
        **held_out,
    }


def score(
    config: Config, trained: Trained, manifest: Manifest, rows: Sequence[int], device: torch.device
) -> dict[str, Figures]:
    """Reads the model file that a training left, and scores crops with it as evaluation does.

    Args:
        config: For the size of a batch and the number of reading processes.
        trained: The training.
        manifest: Of extracted faces.
        rows: Of it, to be scored.
        device: Where.

    Returns:
        `METRICS` as "metrics", and `CONFUSION` at the model file's threshold as "confusion".
    """
    model = load_model(trained.model, device)
    crops = CropDataset(manifest, rows, model.card.image_size, "none")
    order = [(i, 0) for i in range(len(crops))]
    batches = loader(crops, order, 2 * config.train.batch_size, config.train.loader_workers, device.type == "cuda")
    logits, truth = scored(model.network, batches, device)
    metrics = loss_and_metrics(logits, truth)
    said = (torch.sigmoid(logits) >= model.card.threshold).int()
    counts = confusion_matrix(truth.int().numpy(), said.numpy(), labels=[0, 1]).ravel().tolist()
    return {
        "metrics": {name: metrics[name] for name in METRICS},
        "confusion": dict(zip(CONFUSION, counts, strict=True)),
    }


def _write(folder: Path, known: Mapping[str, Any]) -> None:
    with disk_errors(folder), atomic_file(folder / RESULT) as temporary:
        temporary.write_text(json.dumps(known, indent=2, allow_nan=False) + "\n", encoding="utf-8")


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Says how to go on after an interruption."""
    try:
        yield
    except (KeyboardInterrupt, ResourceError):
        log.warning("finished folds are kept; to go on: dfpipe crossval --resume %s", folder)
        raise
