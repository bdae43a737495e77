"""Curves of a training as one PNG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

# Blue and vermilion of the palette by Okabe and Ito (2008), which every kind of colour blindness tells apart.
COLOURS = {"train": "#0072B2", "validation": "#D55E00"}
LINES = {"train": "--", "validation": "-"}
PANELS = {  # title -> metric per split
    "loss (log loss)": "log_loss",
    "AUC": "auc",
    "accuracy": "accuracy",
    "F1": "f1",
}


def curves(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draws loss, AUC, accuracy and F1 over the epochs, training dashed and validation solid, the best epoch marked.

    Args:
        rows: Of metrics.csv.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 5.4), dpi=110, facecolor="white", layout="constrained")
    best = [row["epoch"] for row in rows if row["best_so_far"]]
    for axes, (title, metric) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
        for split, colour in COLOURS.items():
            known = [
                (row["epoch"], row[f"{split}_{metric}"]) for row in rows if row.get(f"{split}_{metric}") is not None
            ]
            if known:
                axes.plot(*zip(*known, strict=True), LINES[split], color=colour, marker=".", label=split)
        if best:
            axes.axvline(best[-1], color="#777777", linewidth=1, linestyle=":", label=f"kept: epoch {best[-1]}")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
