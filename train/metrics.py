"""Numbers that say how good scores are, computed by scikit-learn. Pure.

A metric that needs a label or an answer which does not occur is None: "undefined", never a made-up number. Fake (1) is the
positive class throughout.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

PROBABILITY_FLOOR = 1e-7  # keeps log loss finite for a model that is certain and wrong
ECE_BINS = 15  # of equal width, as Guo et al., On Calibration of Modern Neural Networks, ICML 2017
FPR_LIMITS = {"tpr_at_1_fpr": 0.01, "tpr_at_5_fpr": 0.05}
CLASSES = ("real", "fake")

Values = NDArray[np.float64]


def binary_metrics(labels: Sequence[int], p_fake: Sequence[float], threshold: float = 0.5) -> dict[str, float | None]:
    """Compares scores with the truth.

    Args:
        labels: 0 real, 1 fake.
        p_fake: Probabilities in 0..1, as many.
        threshold: From which on a score counts as fake.

    Returns:
        By name: auc, average_precision, eer, tpr_at_1_fpr, tpr_at_5_fpr (see `ranking_metrics`); log_loss (the mean binary
        cross-entropy, which training minimises), brier, ece (see `expected_calibration_error`); accuracy,
        balanced_accuracy, precision, recall, f1 of the class fake, and fpr, the share of real ones called fake.
    """
    truth, scores = np.asarray(labels, dtype=int), np.asarray(p_fake, dtype=float)
    clipped = np.clip(scores, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    some = len(truth) > 0
    return {
        **ranking_metrics(truth, scores),
        "log_loss": float(sk.log_loss(truth, clipped, labels=[0, 1])) if some else None,
        "brier": float(np.mean((scores - truth) ** 2)) if some else None,
        "ece": expected_calibration_error(truth, scores) if some else None,
        **decision_metrics(confusion(labels, p_fake, threshold)),
    }


def ranking_metrics(truth: NDArray[np.int64], scores: Values) -> dict[str, float | None]:
    """What needs no threshold: area under the ROC curve, average precision, equal error rate, recall at low FPR.

    The equal error rate lies on the straight line between the two points of the ROC curve around it. Recall at 1 % FPR is
    that of the best threshold which calls at most 1 % of the real ones fake; nothing is interpolated.
    """
    names = ("auc", "average_precision", "eer", *FPR_LIMITS)
    if len(np.unique(truth)) < 2:
        return dict.fromkeys(names)
    fpr, tpr, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    return {
        "auc": float(sk.roc_auc_score(truth, scores)),
        "average_precision": float(sk.average_precision_score(truth, scores)),
        "eer": _equal_error_rate(fpr, tpr),
        **{name: float(tpr[fpr <= limit].max()) for name, limit in FPR_LIMITS.items()},
    }


def _equal_error_rate(fpr: Values, tpr: Values) -> float:
    gap = fpr - (1 - tpr)  # from -1 to 1, never falling
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(fpr[before] + share * (fpr[after] - fpr[before]))


def expected_calibration_error(truth: NDArray[np.int64], scores: Values) -> float:
    """Mean distance between mean score and share of fakes in the `ECE_BINS` bins of p_fake, weighted by number."""
    bins = reliability(truth, scores)
    return sum(b["count"] * abs(b["p_fake"] - b["fakes"]) for b in bins) / len(truth)


def reliability(truth: NDArray[np.int64], scores: Values) -> list[dict[str, float]]:
    """The bins of a reliability diagram that hold anything: count, mean p_fake, share of fakes."""
    places = bin_of(scores)
    return [
        {"count": int(inside.sum()), "p_fake": float(scores[inside].mean()), "fakes": float(truth[inside].mean())}
        for place in range(ECE_BINS)
        if (inside := places == place).any()
    ]


def bin_of(scores: Values) -> NDArray[np.int64]:
    """The bin of each score, 0 to ECE_BINS - 1; a score on an edge belongs to the upper bin."""
    return np.minimum(scores * ECE_BINS, ECE_BINS - 1).astype(np.int64)


# ---- decisions at a threshold ----------------------------------------------------------------------------------------


def confusion(labels: Sequence[int], p_fake: Sequence[float], threshold: float) -> dict[str, int]:
    """Counts of right and wrong answers.

    Returns:
        tn (real, called real), fp (real, called fake), fn (fake, called real), tp (fake, called fake).
    """
    truth = np.asarray(labels, dtype=int)
    said = np.asarray(p_fake, dtype=float) >= threshold
    counts = sk.confusion_matrix(truth, said, labels=[0, 1]) if len(truth) else np.zeros((2, 2), dtype=int)
    return dict(zip(("tn", "fp", "fn", "tp"), map(int, counts.ravel()), strict=True))


def decision_metrics(counts: Mapping[str, int]) -> dict[str, float | None]:
    """What follows from a confusion matrix; see `binary_metrics`."""
    report = class_report(counts)
    fake, real = report["fake"], report["real"]
    recalls = (real["recall"], fake["recall"])
    return {
        "accuracy": report["accuracy"],
        "balanced_accuracy": None if None in recalls else sum(recalls) / 2,
        **{name: fake[key] for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1"))},
        "fpr": None if real["recall"] is None else 1 - real["recall"],
    }


def class_report(counts: Mapping[str, int]) -> dict[str, Any]:
    """The classification report of a confusion matrix.

    Args:
        counts: As from `confusion`.

    Returns:
        real and fake, each with precision, recall, f1 and support; macro and weighted means of them; accuracy.
    """
    if not sum(counts.values()):
        empty: dict[str, Any] = {"precision": None, "recall": None, "f1": None, "support": 0}
        return {"accuracy": None, **{name: dict(empty) for name in (*CLASSES, "macro", "weighted")}}
    found = _sk_report(counts, output_dict=True)
    right = counts["tn"] + counts["tp"]
    classes = {name: _report_row(found[name], counts, name) for name in CLASSES}
    means = {name: _mean_row(found[f"{name} avg"], list(classes.values())) for name in ("macro", "weighted")}
    return {"accuracy": right / sum(counts.values()), **classes, **means}


def _report_row(row: Mapping[str, float], counts: Mapping[str, int], name: str) -> dict[str, Any]:
    values: dict[str, Any] = {key: _defined(row[key]) for key in ("precision", "recall")}
    values["f1"] = _defined(row["f1-score"]) if _involved(counts, name) else None
    return {**values, "support": int(row["support"])}


def _mean_row(row: Mapping[str, float], classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A mean over the classes is undefined where that of one class is; scikit-learn would leave that class out."""
    keys = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
    values = {ours: None if None in [c[ours] for c in classes] else _defined(row[key]) for ours, key in keys.items()}
    return {**values, "support": int(row["support"])}


def _involved(counts: Mapping[str, int], name: str) -> int:
    """How many are of a class or were called so: with none, its F1 is undefined."""
    right = counts["tp"] if name == "fake" else counts["tn"]
    return right + counts["fp"] + counts["fn"]


def report_text(counts: Mapping[str, int]) -> str:
    """The classification report as scikit-learn prints it; what is undefined reads nan."""
    return str(_sk_report(counts, digits=3)) if sum(counts.values()) else "nothing was scored"


def _sk_report(counts: Mapping[str, int], **how: Any) -> Any:
    numbers = [counts[key] for key in ("tn", "fp", "fn", "tp")]
    truth, said = np.repeat([0, 0, 1, 1], numbers), np.repeat([0, 1, 0, 1], numbers)
    return sk.classification_report(truth, said, labels=[0, 1], target_names=CLASSES, zero_division=np.nan, **how)


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
