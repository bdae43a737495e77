"""What a cross-validation says: mean, spread and confusion over its folds, as a table and as text. Pure."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from dfpipe.train.folds import HELD_OUT

METRICS = ("auc", "log_loss", "accuracy", "precision", "recall", "f1")
CONFUSION = ("tn", "fp", "fn", "tp")  # fake is positive, as everywhere
Figures = dict[str, float | None]


def joined(results: Sequence[Mapping[str, Any]]) -> dict[str, Figures]:
    """Mean, sample standard deviation (divided by n - 1) and sums over the folds.

    A figure that is undefined in one fold has no mean.
    """
    metrics = {name: [result["metrics"][name] for result in results] for name in METRICS}
    counts = {name: [result["confusion"][name] for result in results] for name in CONFUSION}
    return {
        "mean": {name: None if None in values else statistics.fmean(values) for name, values in metrics.items()},
        "standard_deviation": {name: _spread(values) for name, values in metrics.items()},
        "confusion_sum": {name: sum(values) for name, values in counts.items()},
        "confusion_mean": {name: statistics.fmean(values) for name, values in counts.items()},
        "confusion_standard_deviation": {name: _spread(values) for name, values in counts.items()},
    }


def _spread(values: Sequence[Any]) -> float | None:
    return None if None in values else statistics.stdev(map(float, values))


def table(known: Mapping[str, Any]) -> str:
    """The result as CSV: a row per fold, then mean and standard deviation."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["fold", "groups", "crops", "best_epoch", *METRICS, *CONFUSION])
    writer.writeheader()
    for result in known["results"]:
        sizes = {"groups": result["groups"][HELD_OUT], "crops": result["crops"][HELD_OUT]}
        plain = {"fold": result["fold"], "best_epoch": result["best_epoch"], **sizes}
        writer.writerow({**plain, **result["metrics"], **result["confusion"]})
    writer.writerow({"fold": "mean", **known["mean"], **known["confusion_mean"]})
    writer.writerow(
        {
            "fold": "standard deviation",
            **known["standard_deviation"],
            **known["confusion_standard_deviation"],
        }
    )
    return text.getvalue()


def text(known: Mapping[str, Any]) -> list[str]:
    """The result for a terminal of 80 columns."""
    lines = [f"{'fold':<6}{'sources':>8}{'crops':>8}" + "".join(f"{name:>10}" for name in METRICS[:5]) + f"{'f1':>7}"]
    for result in known["results"]:
        head = f"{result['fold']:<6}{result['groups'][HELD_OUT]:>8}{result['crops'][HELD_OUT]:>8}"
        lines.append(head + _cells(result["metrics"]))
    lines.append(f"{'mean':<22}" + _cells(known["mean"]))
    lines.append(f"{'standard deviation':<22}" + _cells(known["standard_deviation"]))
    total, mean = known["confusion_sum"], known["confusion_mean"]
    lines += ["", f"{'all folds (mean of a fold)':<28}{'said real':>20}{'said fake':>20}"]
    for truth, names in (("real", ("tn", "fp")), ("fake", ("fn", "tp"))):
        cells = [f"{total[name]} ({mean[name]:.1f})" for name in names]
        lines.append(f"{'  is ' + truth:<28}{cells[0]:>20}{cells[1]:>20}")
    return lines


def _cells(figures: Mapping[str, float | None]) -> str:
    widths = (*[10] * 5, 7)
    shown = ["-" if (value := figures[name]) is None else f"{value:.3f}" for name in METRICS]
    return "".join(f"{cell:>{width}}" for cell, width in zip(shown, widths, strict=True))
