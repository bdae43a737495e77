"""The charts of an evaluation as PNG, drawn from the same plain data that metrics.json holds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dfpipe.colours import LABELS
from dfpipe.colours import LINES as COLOURS
from dfpipe.preprocess.charts import LINES, as_png, short
from dfpipe.train.metrics import ECE_BINS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MODEL_LINES = ("-", "--", "-.", ":")
SQUARE = 4.0  # inches: of charts whose two axes both run from 0 to 1
FLAT = 2.8
SMALL = 8  # pt, of legends inside a chart: in the 330 px that a phone leaves still 8 px

Results = Mapping[str, Any]


def pictures_of(results: Results) -> dict[str, bytes]:
    """Every chart that has something to show: file name to PNG. Models are numbered from 1 in the names."""
    models = results["models"]
    drawn: dict[str, bytes] = {}
    for level in ("clip", "frame"):
        if level == "frame" and all(_same_units(m) for m in models.values()):
            continue  # stills: every clip is one frame
        curves = {name: m["levels"][level]["curves"] for name, m in models.items()}
        aucs = {name: m["levels"][level]["metrics"]["auc"] for name, m in models.items()}
        roc = {f"{short(n)} (AUC {aucs[n]:.3f})": c["roc"] for n, c in curves.items() if c["roc"]}
        pr = {short(n): c["precision_recall"] for n, c in curves.items() if c["precision_recall"]}
        if roc:
            drawn[f"roc_{level}.png"] = _roc(roc, level)
            drawn[f"precision_recall_{level}.png"] = _precision_recall(pr, level)
    for number, (_, model) in enumerate(models.items(), 1):
        drawn |= {f"{what}_{number}.png": data for what, data in _of_model(model).items()}
    return drawn


def _same_units(model: Mapping[str, Any]) -> bool:
    return bool(model["levels"]["frame"]["count"] == model["levels"]["clip"]["count"])


def _of_model(model: Mapping[str, Any]) -> dict[str, bytes]:
    clip = model["levels"]["clip"]
    if not clip["count"]:
        return {}
    found = {
        "confusion": confusion_chart(clip["confusion"], model["threshold"]),
        "histogram": _histogram(clip["curves"]["histogram"], model["threshold"], model["band"]),
        "reliability": _reliability(clip["curves"]["reliability"]),
    }
    if len(model.get("history") or []) > 1:
        found["learning"] = _learning(model["history"])
    return found


def _roc(curves: Mapping[str, Sequence[Sequence[float]]], level: str) -> bytes:
    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        _lines(axes, curves)
        _unit_square(axes, "share of real called fake (FPR)", "share of fakes found (TPR)")
        axes.legend(loc="lower right", fontsize=SMALL, frameon=False)

    return as_png(draw, f"ROC, per {level}", SQUARE, legend=False)


def _precision_recall(curves: Mapping[str, Sequence[Sequence[float]]], level: str) -> bytes:
    def draw(axes: "Axes") -> None:
        _lines(axes, curves)
        _unit_square(axes, "recall", "precision")
        axes.legend(loc="lower left", fontsize=SMALL, frameon=False)

    return as_png(draw, f"Precision and recall of fake, per {level}", SQUARE, legend=False)


def _lines(axes: "Axes", curves: Mapping[str, Sequence[Sequence[float]]]) -> None:
    for i, (name, points) in enumerate(curves.items()):
        x, y = np.asarray(points).T
        axes.plot(x, y, label=name, color=COLOURS[i % len(COLOURS)], linestyle=MODEL_LINES[i % 4])


def _unit_square(axes: "Axes", x: str, y: str) -> None:
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_aspect("equal")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def confusion_chart(counts: Mapping[str, int], threshold: float) -> bytes:
    """A confusion matrix as a heat map; the colour is the share of the true class, the text says the number as well."""
    table = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)

    def draw(axes: "Axes") -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in range(2):
            for column in range(2):
                ink = "white" if shares[row, column] > 0.6 else "black"
                share = f"{shares[row, column]:.1%}" if table[row].sum() else "none"
                text = f"{table[row, column]:,}\n{share}"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=12)
        axes.set_xticks([0, 1], ["called real", "called fake"])
        axes.set_yticks([0, 1], ["real", "fake"])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    return as_png(draw, f"Clips, right and wrong at {threshold:.2f}", 3.4, legend=False)


def _histogram(counts: Mapping[str, Sequence[float]], threshold: float, band: Sequence[float]) -> bytes:
    edges = np.asarray(counts["edges"])

    def draw(axes: "Axes") -> None:
        for name in ("real", "fake"):
            total = sum(counts[name])
            if total:
                share = 100 * np.asarray(counts[name]) / total
                axes.stairs(share, edges, fill=True, color=LABELS[name], alpha=0.25)
                label = f"{name} ({total:,})"
                axes.stairs(share, edges, color=LABELS[name], linestyle=LINES[name], linewidth=1.8, label=label)
        axes.axvspan(*band, color="#999999", alpha=0.2, linewidth=0)
        axes.axvline(threshold, color="black", linewidth=1)
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("p_fake of clips; line: threshold, grey: uncertain band")
        axes.set_ylabel("% of the label")

    return as_png(draw, "Scores", 3.0, legend=True)


def _reliability(bins: Sequence[Mapping[str, float]]) -> bytes:
    most = max(b["count"] for b in bins)

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        x, y = [b["p_fake"] for b in bins], [b["fakes"] for b in bins]
        axes.plot(x, y, color=COLOURS[0], linewidth=1)
        axes.scatter(x, y, [12 + 150 * b["count"] / most for b in bins], color=COLOURS[0], alpha=0.7, clip_on=False)
        _unit_square(axes, "mean p_fake of a bin", "share of fakes in it")

    return as_png(draw, f"Reliability, {ECE_BINS} bins; area: number of clips", SQUARE, legend=False)


def _learning(rows: Sequence[Mapping[str, float | None]]) -> bytes:
    series = {
        "training loss": "train_loss",
        "validation loss": "validation_log_loss",
        "validation AUC": "validation_auc",
    }

    def draw(axes: "Axes") -> None:
        for i, (label, key) in enumerate(series.items()):
            known = [(row["epoch"], row[key]) for row in rows if row[key] is not None]
            if known:
                x, y = zip(*known, strict=True)
                axes.plot(x, y, label=label, color=COLOURS[i], linestyle=MODEL_LINES[i], marker="o", markersize=3)
        epochs = [row["epoch"] for row in rows if row["epoch"] is not None]
        axes.set_xticks(epochs[:: -(-len(epochs) // 10)])
        axes.set_xlabel("epoch")
        axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))

    return as_png(draw, "Learning curve", FLAT, legend=True)


def stress_chart(conditions: Sequence[Mapping[str, Any]], kind: str) -> bytes:
    """AUC, false positive rate and share of scored inputs against the strength of one degradation, with intervals."""
    rows = [row for row in conditions if row["change"] in ("none", kind)]
    ticks = ["none" if row["strength"] is None else f"{row['strength']:g}" for row in rows]

    def draw(axes: "Axes") -> None:
        for i, (metric, label) in enumerate((("auc", "AUC"), ("fpr", "FPR"))):
            known = [(x, row["metrics"][metric], row["intervals"][metric]) for x, row in enumerate(rows)]
            known = [entry for entry in known if entry[1] is not None]
            if not known:
                continue
            xs, ys, spans = zip(*known, strict=True)
            style: dict[str, Any] = {"color": COLOURS[i], "linestyle": MODEL_LINES[i]}
            axes.plot(xs, ys, label=label, marker="o", markersize=4, **style)
            for x, pair in zip(xs, spans, strict=True):
                if pair is not None:
                    axes.plot([x, x], pair, color=COLOURS[i], linewidth=3, alpha=0.3)
        shares = [row["share"] for row in rows]
        axes.plot(range(len(rows)), shares, label="coverage", color="#777777", linestyle=":", marker="s", markersize=3)
        axes.set_xticks(range(len(rows)), ticks)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel(rows[-1]["unit"])

    return as_png(draw, rows[-1]["title"], FLAT, legend=True)
