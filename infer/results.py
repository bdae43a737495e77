"""All figures of an evaluation as plain data: what metrics.json holds, and what page and pictures are made of. Pure."""

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from sklearn import metrics as sk

from dfpipe import __version__
from dfpipe.config import InferConfig
from dfpipe.infer.intervals import LEVEL, RESAMPLES, as_pairs, intervals, paired
from dfpipe.infer.levels import Level, coverage, levels_of
from dfpipe.infer.scores import Scores
from dfpipe.preprocess.looks import spread_over
from dfpipe.train.metrics import binary_metrics, class_report, confusion, reliability

MISTAKES = 24  # of each kind: what a person takes in at one look
HISTOGRAM_BINS = 20
CURVE_POINTS = 400
FEW_GROUPS = 20  # below, percentile intervals are known to be too narrow (Cameron, Gelbach and Miller, 2008)
FACE_SIDES = (64, 128, 256)  # px: DFDC faces are mostly above 128, faces in a crowd below 64


def results_of(scores: Scores, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Measures every model of a table, and compares them.

    Args:
        scores: From `dfpipe.infer.scores`.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Returns:
        Plain values, ready for JSON; None stands for "undefined".
    """
    default = InferConfig()
    joining = {"aggregate": scores.about.get("aggregate", default.aggregate)}
    joining["min_frames"] = scores.about.get("min_frames", default.min_frames)
    told = scores.about.get("models", {})
    levels, models = {}, {}
    for name in scores.models:
        facts = {"threshold": 0.5, "band": [0.4, 0.6], **told.get(name, {})}
        rows = scores.of(name)
        levels[name] = levels_of(rows, band=(facts["band"][0], facts["band"][1]), **joining)
        models[name] = {**facts, **_model(rows, levels[name], facts["threshold"], resamples, seed)}
    return {
        "dfpipe": __version__,
        **{key: scores.about.get(key) for key in ("data", "split")},
        **joining,
        "bootstrap": {"resamples": resamples, "seed": seed, "level": LEVEL, "drawn": "groups (source clips)"},
        "models": models,
        "comparisons": _comparisons({name: found["clip"] for name, found in levels.items()}, resamples, seed),
    }


def _model(rows: Scores, levels: dict[str, Level], threshold: float, resamples: int, seed: int) -> dict[str, Any]:
    clips = levels["clip"]
    return {
        "coverage": coverage(rows),
        "levels": {name: measured(level, threshold, resamples, seed, True) for name, level in levels.items()},
        "verdicts": _verdicts(clips),
        "breakdown": _breakdown(clips, threshold, resamples, seed),
        "mistakes": _mistakes(clips, threshold),
    }


def measured(level: Level, threshold: float, resamples: int, seed: int, curves: bool = False) -> dict[str, Any]:
    """Figures of some units, with intervals.

    Args:
        level: The units.
        threshold: From which on a score counts as fake.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        curves: Also the classification report, and the points of curves to draw.
    """
    counts = confusion(level.labels, level.p_fake, threshold)
    found = {
        "count": len(level),
        "real": level.labels.count(0),
        "fake": level.labels.count(1),
        "groups": len(set(level.groups)),
        "metrics": binary_metrics(level.labels, level.p_fake, threshold),
        "intervals": as_pairs(intervals(level.labels, level.p_fake, level.groups, threshold, resamples, seed)),
        "confusion": counts,
    }
    return {**found, "report": class_report(counts), "curves": _curves(level)} if curves else found


def _curves(level: Level) -> dict[str, Any]:
    """Points to draw: ROC and precision-recall (None without both labels), reliability, histograms."""
    truth, scores = np.asarray(level.labels, dtype=np.int64), np.asarray(level.p_fake)
    both = len(np.unique(truth)) == 2
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    histogram = {
        name: np.histogram(scores[truth == label], edges)[0].tolist() for label, name in enumerate(("real", "fake"))
    }
    roc = list(zip(*(x.tolist() for x in sk.roc_curve(truth, scores)[:2]), strict=True)) if both else None
    pr = sk.precision_recall_curve(truth, scores, drop_intermediate=True) if both else None
    recall_precision = list(zip(pr[1].tolist(), pr[0].tolist(), strict=True)) if pr is not None else None
    return {
        "roc": _thinned(roc),
        "precision_recall": _thinned(recall_precision),
        "reliability": reliability(truth, scores),
        "histogram": {"edges": edges.tolist(), **histogram},
    }


def _thinned(points: list[tuple[float, float]] | None) -> list[list[float]] | None:
    if points is None:
        return None
    return [list(point) for point in [*spread_over(points, CURVE_POINTS), points[-1]]]


def _verdicts(clips: Level) -> dict[str, dict[str, int]]:
    """How often clips of each label got each verdict."""
    found = {label: {"FAKE": 0, "UNCERTAIN": 0, "REAL": 0} for label in ("real", "fake")}
    for label, verdict in zip(clips.labels, clips.columns["verdict"], strict=True):
        found[("real", "fake")[label]][verdict] += 1
    return found


# ---- parts of the data -----------------------------------------------------------------------------------------------


def _breakdown(clips: Level, threshold: float, resamples: int, seed: int) -> dict[str, dict[str, Any]]:
    """The clip-level figures per dataset, method, compression and face size.

    A method's fakes are measured against the real clips of the data sets that they come from.
    """
    parts: dict[str, Callable[[Level], dict[str, list[int]]]] = {
        "dataset": lambda level: _by(level.columns["dataset"]),
        "method": _by_method,
        "compression": lambda level: _by([value or "unknown" for value in level.columns["compression"]]),
        "face_size": _by_size,
    }
    return {
        key: {name: measured(clips.take(rows), threshold, resamples, seed) for name, rows in divide(clips).items()}
        for key, divide in parts.items()
    }


def _by(values: Sequence[str]) -> dict[str, list[int]]:
    return {value: [i for i, v in enumerate(values) if v == value] for value in sorted(set(values))}


def _by_method(clips: Level) -> dict[str, list[int]]:
    datasets, methods = clips.columns["dataset"], clips.columns["method"]
    found = {}
    for method in sorted({m or "unknown" for m, y in zip(methods, clips.labels, strict=True) if y}):
        fakes = [
            i for i, (m, y) in enumerate(zip(methods, clips.labels, strict=True)) if y and (m or "unknown") == method
        ]
        homes = {datasets[i] for i in fakes}
        reals = [i for i, y in enumerate(clips.labels) if not y and datasets[i] in homes]
        found[method] = [*reals, *fakes]
    return found


def _by_size(clips: Level) -> dict[str, list[int]]:
    """By the longer side of the face box: under 64 px, ..., 256 px and more, unknown."""
    edges = (0, *FACE_SIDES)
    names = [
        f"under {FACE_SIDES[0]} px",
        *(f"{a} to {b} px" for a, b in pairwise(FACE_SIDES)),
        f"{FACE_SIDES[-1]} px and more",
    ]
    classes = [
        "unknown" if side is None else names[sum(side >= edge for edge in edges) - 1]
        for side in clips.columns["face_side"]
    ]
    found = _by(classes)
    return {name: found[name] for name in (*names, "unknown") if name in found}


def _mistakes(clips: Level, threshold: float) -> dict[str, list[dict[str, Any]]]:
    """The most confident mistakes: real clips with the highest, fakes with the lowest scores."""
    ranked = sorted(range(len(clips)), key=lambda i: clips.p_fake[i])
    wrong = {
        "real_called_fake": [i for i in reversed(ranked) if not clips.labels[i] and clips.p_fake[i] >= threshold],
        "fake_called_real": [i for i in ranked if clips.labels[i] and clips.p_fake[i] < threshold],
    }
    keep = ("dataset", "name", "method", "crop", "face_side")
    return {
        kind: [{**{k: clips.columns[k][i] for k in keep}, "p_fake": clips.p_fake[i]} for i in rows[:MISTAKES]]
        for kind, rows in wrong.items()
    }


# ---- models against each other ---------------------------------------------------------------------------------------


def _comparisons(clips: dict[str, Level], resamples: int, seed: int) -> list[dict[str, Any]]:
    """Every pair of models on the clips that both scored."""
    return [_compared(one, other, clips[one], clips[other], resamples, seed) for one, other in combinations(clips, 2)]


def _compared(one: str, other: str, first: Level, second: Level, resamples: int, seed: int) -> dict[str, Any]:
    place = {key: i for i, key in enumerate(second.columns["key"])}
    rows = [i for i, key in enumerate(first.columns["key"]) if key in place]
    a, b = first.take(rows), second.take([place[first.columns["key"][i]] for i in rows])
    auc = [binary_metrics(level.labels, level.p_fake)["auc"] for level in (a, b)]
    gap = None if auc[0] is None or auc[1] is None else auc[0] - auc[1]
    compared = paired(a.labels, a.p_fake, b.p_fake, a.groups, resamples, seed)
    interval = compared["interval"]
    return {
        "one": one,
        "other": other,
        "clips": len(rows),
        "auc": auc,
        "difference": gap,
        "interval": None if interval is None else list(interval),
        "p_value": compared["p_value"],
    }
