"""Pictures of a search: what came of the trials, one after the other and by setting."""

import io
from collections.abc import Sequence
from typing import Any

from dfpipe.train.search import Search
from dfpipe.train.trialreport import Row, less_is_better

# Of the palette by Okabe and Ito (2008), which every kind of colour blindness tells apart; shapes differ too.
COLOURS = {"complete": "#0072B2", "pruned": "#E69F00", "failed": "#D55E00"}
SHAPES = {"complete": "o", "pruned": "x", "failed": "v"}


def history(trials: Sequence[Row], metric: str) -> bytes:
    """Draws every trial's best validation, and the best of all so far.

    Args:
        trials: In order; those without a figure stand at the foot.
        metric: What is monitored.

    Returns:
        A PNG.
    """
    figure, axes = _panel("trial", f"validation {metric}", "trials in their order")
    from matplotlib.ticker import MaxNLocator

    _points(axes, trials, [trial["trial"] for trial in trials])
    done = [trial for trial in trials if trial["state"] == "complete"]
    better = min if less_is_better(metric) else max
    so_far = [better(other["value"] for other in done[: i + 1]) for i in range(len(done))]
    axes.step(
        [trial["trial"] for trial in done], so_far, where="post", color="#777777", linewidth=1, label="best so far"
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _png(figure, axes)


def scatter(trials: Sequence[Row], metric: str, search: Search) -> bytes:
    """Draws every trial's best validation over one setting.

    Args:
        trials: Each with the setting's value under its key.
        metric: What is monitored.
        search: The setting.

    Returns:
        A PNG.
    """
    figure, axes = _panel(search.key, f"validation {metric}", f"trials by {search.key}")
    if search.choices:
        places = {choice: place for place, choice in enumerate(search.choices)}
        _points(axes, trials, [places[trial[search.key]] for trial in trials])
        axes.set_xticks(range(len(places)), [str(choice) for choice in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
    else:
        _points(axes, trials, [trial[search.key] for trial in trials])
        if search.log:
            axes.set_xscale("log")
        axes.set_xlim(search.low, search.high)
    return _png(figure, axes)


def _panel(x: str, y: str, title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=110, facecolor="white", layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _points(axes: Any, trials: Sequence[Row], places: Sequence[float]) -> None:
    for state, colour in COLOURS.items():
        mine = [(x, trial["value"]) for x, trial in zip(places, trials, strict=True) if trial["state"] == state]
        known = [(x, y) for x, y in mine if y is not None]
        without = [x for x, y in mine if y is None]
        style = {"color": colour, "marker": SHAPES[state], "linestyle": "none", "clip_on": False}
        if known:
            axes.plot(*zip(*known, strict=True), label=state, **style)
        if without:  # at the foot of the picture, whatever its scale
            axes.plot(
                without,
                [0.0] * len(without),
                transform=axes.get_xaxis_transform(),
                label=f"{state}, no figure",
                **style,
            )


def _png(figure: Any, axes: Any) -> bytes:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
