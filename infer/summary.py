"""The figures of an evaluation as tables: CSV for programs, Markdown for papers and model cards."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfpipe.files import atomic_file
from dfpipe.infer.page import figure, share, span
from dfpipe.names import as_cell, printable

SUMMARY_CSV, SUMMARY_MD = "summary.csv", "summary.md"
SHOWN = (
    "auc",
    "average_precision",
    "eer",
    "tpr_at_1_fpr",
    "tpr_at_5_fpr",
    "accuracy",
    "balanced_accuracy",
    "log_loss",
    "ece",
)
PART_SHOWN = ("auc", "accuracy", "recall", "fpr", "log_loss")  # of parts of the data
TITLES = {
    "auc": "AUC",
    "average_precision": "average precision",
    "eer": "equal error rate",
    "tpr_at_1_fpr": "TPR at 1 % FPR",
    "tpr_at_5_fpr": "TPR at 5 % FPR",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision of fake",
    "recall": "recall of fake",
    "f1": "F1 of fake",
    "fpr": "false positive rate",
}


def write_tables(out: Path, results: Mapping[str, Any]) -> None:
    """Writes summary.csv (every figure with its interval) and summary.md (the usual ones, per clip)."""
    write_csv(out / SUMMARY_CSV, summary_rows(results))
    with atomic_file(out / SUMMARY_MD) as temporary:
        temporary.write_text(markdown(results), encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of equal keys; undefined is an empty cell."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: as_cell(value) for key, value in row.items()} for row in rows)


def summary_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each model, level and metric."""
    rows = []
    for name, model in results["models"].items():
        for level, found in model["levels"].items():
            for metric, value in found["metrics"].items():
                low, high = found["intervals"][metric] or (None, None)
                counts = {key: found[key] for key in ("count", "real", "fake", "groups")}
                figures = {"metric": metric, "value": value, "low": low, "high": high}
                rows.append({"model": name, "level": level, **figures, **counts})
    return rows


def markdown(results: Mapping[str, Any], level: str = "clip") -> str:
    """A table of all models, the best AUC first, and one of their differences."""
    models = sorted(results["models"].items(), key=lambda entry: -(entry[1]["levels"][level]["metrics"]["auc"] or 0))
    lines = [_line(["model", f"{level}s", "coverage", *(TITLES[m] for m in SHOWN)]), _line(["---"] * (3 + len(SHOWN)))]
    for name, model in models:
        found = model["levels"][level]
        cells = [with_interval(found, metric) for metric in SHOWN]
        lines.append(_line([name, f"{found['count']:,}", share(model["coverage"]["share"]), *cells]))
    if results["comparisons"]:
        heads = ["AUC of", "minus that of", "clips", "difference", "95 % interval", "p"]
        lines += ["", _line(heads), _line(["---"] * len(heads))]
    for c in results["comparisons"]:
        cells = [
            c["one"],
            c["other"],
            f"{c['clips']:,}",
            figure(c["difference"]),
            span(c["interval"]),
            figure(c["p_value"]),
        ]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def stress_markdown(conditions: Sequence[Mapping[str, Any]]) -> str:
    """A table of the stress test: a row for each degradation and strength."""
    heads = ["change", "strength", "clips", "coverage", "AUC", "false positive rate", "recall of fake"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in conditions:
        strength = "" if row["strength"] is None else f"{row['unit']} {row['strength']:g}"
        cells = [with_interval(row, metric) for metric in ("auc", "fpr", "recall")]
        lines.append(_line([row["title"], strength, f"{row['count']:,}", share(row["share"]), *cells]))
    return "\n".join(lines) + "\n"


def with_interval(found: Mapping[str, Any], metric: str) -> str:
    """A figure and its interval for reading."""
    value, interval = found["metrics"][metric], found["intervals"][metric]
    return figure(value) if interval is None or value is None else f"{figure(value)} ({span(interval)})"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(printable(cell).replace("|", "\\|") for cell in cells) + " |"
