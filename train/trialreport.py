"""What a search says: its trials as a table, the best of them, and how it ended. Pure."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from dfpipe.errors import DataError
from dfpipe.names import as_cell

Row = dict[str, Any]  # of trials.csv
STATES = ("complete", "pruned", "failed")


def less_is_better(monitor: str) -> bool:
    """Whether the best trial has least of what is monitored."""
    return monitor == "loss"


def best_of(rows: Sequence[Row], monitor: str) -> Row:
    """The best of the complete trials.

    Raises:
        DataError: None is complete.
    """
    done = [row for row in rows if row["state"] == "complete"]
    if not done:
        why = f"; the last: {rows[-1]['reason']}" if rows else ""
        raise DataError(f"none of {len(rows)} trials came to an end{why}")
    choose = min if less_is_better(monitor) else max
    return choose(done, key=lambda row: float(row["value"]))


def table(rows: Sequence[Row]) -> str:
    """The trials as CSV."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({key: as_cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def text(rows: Sequence[Row], keys: Sequence[str], monitor: str) -> list[str]:
    """How the search ended, for a terminal.

    Args:
        rows: Of all trials, one of them complete at least.
        keys: What was searched.
        monitor: What trials are compared by.
    """
    counts = {state: sum(row["state"] == state for row in rows) for state in STATES}
    best = best_of(rows, monitor)
    return [
        f"{len(rows)} trials: {', '.join(f'{count} {state}' for state, count in counts.items() if count)}",
        f"best: trial {best['trial']} with validation {monitor} {best['value']:.4f}",
        *(f"  {key} = {value_text(best[key])}" for key in keys),
        f"The best of {len(rows)} looks at the same validation crops is better than the model is:",
        "only crops that no trial saw can say how good it is.",
    ]


def value_text(value: Any) -> str:
    """A searched value for reading."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
