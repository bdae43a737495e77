"""The whole table: every row, and how they are run."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from bench import Facts, Row, Skip, differences
from decoderruns import DecoderRun, decoder_rows
from inputruns import InputRuns, input_rows, run_rows
from processruns import Shared, process_rows
from refusals import refusal_rows

# Rows that are not as they should be, and why; docs/reliability.md says so too. Each is tried all the same.
KNOWN_LIMITS = {
    "mirrored by its header": "FFmpeg tells the turn of a mirrored clip as 180 degrees, so that it is read upside down",
}
AT_ONCE = 2  # rows; most of them wait for processes that use a core each


@dataclass(frozen=True)
class Outcome:
    """What became of a row."""

    row: Row
    seconds: float
    observed: Facts = field(default_factory=dict)
    wrong: Sequence[str] = ()
    skipped: str = ""


def rows_in(root: Path) -> list[Row]:
    """All rows. Nothing is made in `root` before one of them is observed."""
    runs, shared = InputRuns(root / "inputs"), Shared(root / "shared")
    return [
        *input_rows(runs),
        *run_rows(runs),
        *decoder_rows(DecoderRun(root / "decoders")),
        *process_rows(shared),
        *refusal_rows(shared),
    ]


def observe(row: Row, folder: Path) -> Outcome:
    """Runs one row in an empty folder; what it raises is a difference too."""
    start = time.monotonic()
    folder.mkdir(parents=True)
    try:
        observed = row.observe(folder)
        wrong = differences(row.expected, observed)
        return Outcome(row, time.monotonic() - start, observed, wrong)
    except Skip as reason:
        return Outcome(row, time.monotonic() - start, skipped=str(reason))
    except Exception as error:
        return Outcome(row, time.monotonic() - start, wrong=[f"the row itself broke: {type(error).__name__}: {error}"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Table:
    """Runs rows side by side.

    Args:
        root: An empty folder.
        names: Of the rows that are wanted; None = all.
    """

    def __init__(self, root: Path, names: set[str] | None = None) -> None:
        rows = [row for row in rows_in(root) if names is None or row.name in names]
        self._pool = ThreadPoolExecutor(AT_ONCE)
        order = sorted(range(len(rows)), key=lambda i: rows[i].late)  # else all would wait for one run
        futures = {i: self._pool.submit(observe, rows[i], root / f"row{i}") for i in order}
        self._outcomes: dict[str, Future[Outcome]] = {rows[i].name: futures[i] for i in range(len(rows))}

    def __getitem__(self, name: str) -> Outcome:
        """Waits for a row."""
        return self._outcomes[name].result()

    def __iter__(self) -> Iterator[Outcome]:
        """All rows in the order of the table."""
        return (future.result() for future in self._outcomes.values())

    def close(self) -> None:
        """Leaves out what has not begun."""
        self._pool.shutdown(cancel_futures=True)


def quiet() -> None:
    """For this process and all that it starts: one thread each, since they share the cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)  # it was loaded before; sums of other numbers of threads differ in their last digits
