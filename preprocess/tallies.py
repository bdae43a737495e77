"""Counts and spreads of the columns of a manifest, by label. Pure."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.preprocess.splits import SPLITS
from dfpipe.types import Label

Values = NDArray[np.float64]

LABELS: dict[int | None, str] = {Label.REAL: "real", Label.FAKE: "fake", None: "unlabelled"}
UNNAMED = "(none)"  # shown for an empty or missing split, method or dataset
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Spread:
    """How the values of one measure are distributed, per label. Every value falls into a bin: counts add up."""

    edges: tuple[float, ...]  # of the bins, one more than there are bins; empty where nothing was measured
    counts: dict[str, list[int]]  # label -> values per bin
    quantiles: dict[str, list[float]]  # label -> the values at QUANTILES
    only: float | None  # the value, if all are the same


def cross(values: Iterable[Any], labels: Iterable[int | None]) -> dict[str, dict[str, int]]:
    """Counts each value per label: the usual splits in their usual order, then everything by name."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for value, label in zip(values, labels, strict=True):
        table[UNNAMED if value is None or value == "" else str(value)][LABELS[label]] += 1
    order = sorted(table, key=lambda value: (SPLITS.index(value) if value in SPLITS else len(SPLITS), value))
    return {value: dict(table[value]) for value in order}


def reasons_of(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The commonest reasons given for each state, with the first input that each was given for.

    Args:
        rows: Of inputs.parquet.
        most: Reasons to keep, commonest first.
    """
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for row in rows:
        if row["reason"]:
            key = (str(row["state"]), str(row["reason"]))
            counts[key] += 1
            first.setdefault(key, str(row["name"]))
    return [
        {"state": state, "reason": reason, "inputs": count, "example": first[state, reason]}
        for (state, reason), count in counts.most_common(most)
    ]


def spread(values: Sequence[Any], labels: Sequence[int | None], bins: Callable[[Values], Values]) -> Spread:
    """Divides values into bins, per label. Values that are missing or not finite are left out.

    Args:
        values: Numbers or None.
        labels: Of the same length.
        bins: Gives the edges for all finite values together; one of the functions below.
    """
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    names = np.array([LABELS[label] for label in labels])
    names, numbers = names[np.isfinite(numbers)], numbers[np.isfinite(numbers)]
    if not numbers.size:
        return Spread((), {}, {}, None)
    edges = bins(numbers)
    inside = np.clip(numbers, edges[0], edges[-1])
    present = [name for name in LABELS.values() if (names == name).any()]
    return Spread(
        tuple(float(edge) for edge in edges),
        {name: [int(count) for count in np.histogram(inside[names == name], edges)[0]] for name in present},
        {name: [float(value) for value in np.quantile(numbers[names == name], QUANTILES)] for name in present},
        float(numbers[0]) if np.unique(numbers).size == 1 else None,
    )


def octave_bins(values: Values) -> Values:
    """Eight bins per doubling, for sizes in px: from 1 px up."""
    return np.exp2(_steps(np.log2(np.maximum(values, 1)), 8))


def decade_bins(values: Values) -> Values:
    """Eight bins per factor of ten, for positive values over several orders of magnitude: from 0.1 up."""
    return np.power(10.0, _steps(np.log10(np.maximum(values, 0.1)), 8))


def byte_bins(_: Values) -> Values:
    """Thirty-two bins over the range of 8-bit luma, whatever of it is used: two data sets then compare at a glance."""
    return np.arange(0, 257, 8, dtype=np.float64)


def share_bins(values: Values) -> Values:
    """Forty bins up to 1, from the next lower twentieth below the smallest value."""
    low = min(np.floor(values.min() * 20) / 20, 0.95)
    return np.linspace(low, 1, 41)


def whole_bins(values: Values) -> Values:
    """A bin per whole number from 0."""
    return np.arange(0, values.max() + 2) - 0.5


def _steps(exponents: Values, per_unit: int) -> Values:
    first, last = np.floor(exponents.min() * per_unit), np.floor(exponents.max() * per_unit) + 1
    return np.asarray(np.arange(first, last + 1) / per_unit, np.float64)
