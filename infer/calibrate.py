"""The room's third verb: scores that mean what they say, a threshold and an uncertain band, fitted to validation data."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dfpipe.config import Config
from dfpipe.errors import DataError, LeakError, choose
from dfpipe.infer.aggregate import logit
from dfpipe.infer.calibration import (
    METHODS,
    Truth,
    best_threshold,
    outside,
    parse_rule,
    probabilities,
    uncertain_band,
)
from dfpipe.infer.detector import Detector
from dfpipe.infer.guards import check_fit, check_leaks, without
from dfpipe.infer.levels import Level, levels_of
from dfpipe.infer.record import EVALUATIONS, SHIPPED, STRESS
from dfpipe.infer.scores import Scores
from dfpipe.infer.scoring import rows_of, score_manifest
from dfpipe.preprocess.manifest import read_inputs, read_manifest
from dfpipe.train.metrics import binary_metrics
from dfpipe.train.modelfile import save_model
from dfpipe.train.provenance import fingerprint

log = logging.getLogger(__name__)

ERROR_RATE = 0.1  # of what is said outside the band: one wrong in ten is what a reader of "FAKE" may be asked to bear
FEWEST = 10  # clips of each label: below, a fitted line says nothing


@dataclass(frozen=True)
class Calibrated:
    """Where the model file lies, and what it now holds."""

    model: Path
    calibration: dict[str, Any]
    threshold: float
    band: tuple[float, float]


def calibrate(
    detector: Detector,
    data: Path,
    out: Path,
    config: Config,
    *,
    split: str = "validation",
    method: str = "platt",
    rule: str = "youden",
    error_rate: float = ERROR_RATE,
    any_crops: bool = False,
    leaks: str = "refuse",
) -> Calibrated:
    """Fits a calibration, a threshold and an uncertain band, and writes them into a model file.

    Args:
        detector: The model; an earlier calibration is replaced.
        data: Folder of extracted faces.
        out: The model file to write.
        config: Of it, `infer` matters.
        split: What to fit on; neither train nor test.
        method: A key of `METHODS`.
        rule: See `parse_rule`.
        error_rate: See `uncertain_band`.
        any_crops: Also crops that do not fit the model.
        leaks: What to do with inputs that the model was trained on: refuse or drop.

    Raises:
        LeakError: The split is called train or test, or holds groups that the model was trained on.
        DataError: One label is missing or rare, or the crops do not fit the model.
        UsageError, ConfigError: No such method or rule.
        SourceError: `data` holds no extracted faces.
    """
    if leaks == "keep":
        raise LeakError("nothing can be fitted to training data: leave them out with --leaks drop")
    fit = choose(METHODS, method, "calibration")
    parse_rule(rule)
    if not 0 < error_rate < 0.5:
        raise DataError(f"--error {error_rate:g} makes no sense: choose a share between 0 and 0.5")
    plain = Detector(replace(detector.model, card=replace(detector.model.card, calibration=None)), config.infer)
    scores = _scores(plain, data, split, any_crops, leaks)
    before = _clips(scores, plain)
    _check_labels(before, data, split)
    fitted = {"method": method, **fit(_truth(before), np.array([logit(p) for p in before.p_fake]))}
    after = _clips(_recalibrated(scores, fitted), plain)
    threshold, band = _decided(after, rule, error_rate)
    calibration = {
        **fitted,
        "rule": rule,
        "error_rate": error_rate,
        "outside": outside(after.labels, after.p_fake, band),
        "fitted_on": {**_described(data, split, before), "aggregate": config.infer.aggregate},
        "before": _told(before, 0.5),
        "after": _told(after, threshold),
    }
    _warn_of_silence(band, error_rate)
    done = Calibrated(out, calibration, threshold, band)
    _write(done, detector)
    return done


def _decided(clips: Level, rule: str, error_rate: float) -> tuple[float, tuple[float, float]]:
    """Threshold and uncertain band for calibrated scores."""
    truth, p_fake = _truth(clips), np.array(clips.p_fake)
    threshold = best_threshold(truth, p_fake, *parse_rule(rule))
    return threshold, uncertain_band(truth, p_fake, threshold, error_rate)


def _write(done: Calibrated, detector: Detector) -> None:
    """The model file, with what was fitted, and without figures that no longer hold."""
    old = detector.model.card
    metrics = _without_stale(old.metrics)
    card = replace(old, calibration=done.calibration, threshold=done.threshold, band=done.band, metrics=metrics)
    save_model(done.model, detector.model.network, card)


def _warn_of_silence(band: tuple[float, float], error_rate: float) -> None:
    for side, edge, none in (("REAL", band[0], 0.0), ("FAKE", band[1], 1.0)):
        if edge == none:
            log.warning(
                "no score is sure enough to say %s with an error of at most %g: it will not be said", side, error_rate
            )


def _without_stale(metrics: dict[str, Any]) -> dict[str, Any]:
    """Figures that do not depend on the calibration."""
    if stale := {EVALUATIONS, STRESS, SHIPPED} & set(metrics):
        log.warning(
            "the %s in the file were measured before and are dropped: measure again", " and ".join(sorted(stale))
        )
    return {key: value for key, value in metrics.items() if key not in stale}


def _scores(plain: Detector, data: Path, split: str, any_crops: bool, leaks: str) -> Scores:
    """Uncalibrated scores of a split that may be fitted on."""
    if split in ("train", "test", "all"):
        raise LeakError(
            f"calibration is not fitted on split {split!r}: scores on training data are too good, and what was fitted on "
            "test data cannot be tested on them any more; use --split validation"
        )
    manifest, inputs = read_manifest(data), read_inputs(data)
    rows = rows_of(manifest, split)
    card = plain.model.card
    check_fit(card.name, card, manifest, rows, any_crops)
    note, seen = check_leaks(card.name, card, manifest, inputs, rows, True, leaks)
    if seen:
        log.warning("%s: %s", card.name, note)
    kept = [row for row in inputs if row["media_id"] not in seen]
    return score_manifest(plain, card.name, without(manifest, seen), kept, split)


def _clips(scores: Scores, detector: Detector) -> Level:
    """Scores per clip. Nothing here reads its verdicts, so that the band may be any."""
    return levels_of(scores, detector.config.aggregate, (0.4, 0.6), detector.config.min_frames)["clip"]


def _truth(clips: Level) -> Truth:
    return np.array(clips.labels, dtype=np.int64)


def _check_labels(clips: Level, data: Path, split: str) -> None:
    real, fake = clips.labels.count(0), clips.labels.count(1)
    if min(real, fake) == 0:
        raise DataError(
            f"split {split!r} of {data} has {real} real and {fake} fake clips: calibration needs both labels"
        )
    if min(real, fake) < FEWEST:
        log.warning(
            "only %d real and %d fake clips: what is fitted to so few is hardly better than a guess", real, fake
        )


def _recalibrated(scores: Scores, fitted: dict[str, Any]) -> Scores:
    """The same frames with a calibration, as inference will see them."""
    known = [p for p in scores.columns["p_fake"] if p is not None]
    changed = iter(probabilities(np.array([logit(p) for p in known]), fitted).tolist())
    p_fake = [None if p is None else next(changed) for p in scores.columns["p_fake"]]
    return Scores({**scores.columns, "p_fake": p_fake}, scores.about)


def _described(data: Path, split: str, clips: Level) -> dict[str, Any]:
    return {
        "datasets": sorted(set(clips.columns["dataset"])),
        "split": split,
        "clips": len(clips),
        "real": clips.labels.count(0),
        "fake": clips.labels.count(1),
        "groups": len(set(clips.groups)),
        "fingerprint": fingerprint(clips.columns["media_id"]),
    }


def _told(clips: Level, threshold: float) -> dict[str, float | None]:
    found = binary_metrics(clips.labels, clips.p_fake, threshold)
    return {name: found[name] for name in ("log_loss", "brier", "ece", "auc", "balanced_accuracy", "recall", "fpr")}
