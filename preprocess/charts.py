"""Charts as PNG: bars and histograms, in the colours of real and fake."""

import io
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from dfpipe.colours import LABELS
from dfpipe.names import printable
from dfpipe.preprocess.tallies import Spread, Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import MaxNLocator

LINES = {"real": "-", "fake": "--", "unlabelled": ":"}
OTHER_COLOUR = "#56626B"
WIDTH_IN, DPI = 4.6, 170  # in the 330 px that a phone leaves, an inch is 72 px: type of 10 pt is then 10 px high
MOST_BARS = 20  # rows of a bar chart; what is beyond stands in the table only
NAME_CHARS = 22  # of a row's name; the whole name stands in the table


def bars(title: str, unit: str, table: Mapping[str, Mapping[str, int]]) -> bytes:
    """Horizontal bars, a group for each row and a bar for each of its columns.

    Args:
        title: Above the chart.
        unit: What is counted.
        table: Row -> column (a label, or anything else) -> count. At least one row.
    """
    rows = dict(list(table.items())[:MOST_BARS])
    columns = [c for c in LABELS if any(c in row for row in rows.values())]
    columns += sorted({c for row in rows.values() for c in row} - set(LABELS))
    thick = 0.8 / len(columns)

    def draw(axes: "Axes") -> None:
        places = np.arange(len(rows))
        for i, column in enumerate(columns):
            counts = [row.get(column, 0) for row in rows.values()]
            colour = LABELS.get(column, OTHER_COLOUR)
            drawn = axes.barh(places + (i + 0.5) * thick - 0.4, counts, thick * 0.92, color=colour, label=column)
            axes.bar_label(drawn, [f"{count:,}" if count else "" for count in counts], padding=3, fontsize=9)
        axes.set_yticks(places, [short(name) for name in rows])
        axes.invert_yaxis()
        axes.margins(x=0.16)  # room for the numbers at the ends of the bars
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(_few_whole_ticks())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")

    return as_png(draw, title, 1.3 + len(rows) * (0.1 + 0.21 * len(columns)), legend=columns != [unit])


def histogram(title: str, unit: str, spread: Spread, *, log: bool = False) -> bytes:
    """Outlines per label, each in percent of its own label's values, so that labels of different number compare.

    Args:
        title: Above the chart.
        unit: Of the values.
        spread: With at least one value.
        log: Whether the axis of values is logarithmic.
    """
    edges = np.array(spread.edges)

    def draw(axes: "Axes") -> None:
        for name, counts in spread.counts.items():
            share = 100 * np.array(counts) / sum(counts)
            axes.stairs(share, edges, fill=True, color=LABELS[name], alpha=0.25)
            label = f"{name} ({sum(counts):,})"
            axes.stairs(share, edges, color=LABELS[name], linestyle=LINES[name], linewidth=1.8, label=label)
        if log:
            axes.set_xscale("log")
            _plain_log_ticks(axes, edges)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(unit)
        axes.set_ylabel("% of the label")

    return as_png(draw, title, 3.0, legend=True)


def _plain_log_ticks(axes: "Axes", edges: Values) -> None:
    """Ticks at 1, 2, 5 x powers of ten, or at powers of ten alone where those would crowd."""
    steps = (1, 2, 5) if edges[-1] / edges[0] < 10_000 else (1,)
    ticks = [step * 10.0**power for power in range(-1, 8) for step in steps]
    shown = [tick for tick in ticks if edges[0] <= tick <= edges[-1]]
    axes.set_xticks(shown, [f"{tick:,.10g}" for tick in shown])
    axes.set_xticks([], minor=True)


def _few_whole_ticks() -> "MaxNLocator":
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, integer=True)


def short(name: str) -> str:
    """A name as it fits beside a chart: its start and its end."""
    text = printable(name)
    return text if len(text) <= NAME_CHARS else f"{text[: NAME_CHARS // 2]}…{text[-NAME_CHARS // 2 + 1 :]}"


def as_png(draw: "Callable[[Axes], None]", title: str, height_in: float, *, legend: bool) -> bytes:
    """Draws without pyplot, which keeps figures in global state and may look for a display.

    Args:
        draw: Gets the axes.
        title: Above the chart.
        height_in: Inches.
        legend: Whether the labels that `draw` gave are shown in a line above the axes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style = matplotlib.rc_context(
        {
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
            "font.size": 10,
            "text.parse_math": False,  # a dollar sign in a name is no formula
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
        }
    )
    with style, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the table beside has the name in full
        figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor="white", layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.set_title(title, pad=22 if legend else 8)
        if legend:
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=3, frameon=False, fontsize=9, borderpad=0)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()
