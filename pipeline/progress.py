"""How far a long run has come: a bar on a terminal, a line now and then in a log."""

import logging
import sys
import time
from collections.abc import Mapping
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger(__name__)

LINE_EVERY_S = 30.0
LINE_EVERY_SHARE = 0.1


class Progress:
    """Counts finished inputs. Use as a context manager and call `step` after each input.

    Args:
        what: The name of the work, shown first.
        total: Inputs in all; None where that is not known: then there is a bar, but no lines in between.
        done: Inputs that an earlier run finished.
    """

    def __init__(self, what: str, total: int | None, done: int = 0) -> None:
        self._what, self._total, self._done, self._start = what, total, done, done
        self._began = self._told_at = time.monotonic()
        self._told = done
        terminal = sys.stderr.isatty() and log.isEnabledFor(logging.INFO)
        self._bar = tqdm(total=total, initial=done, desc=what, unit="input", leave=False) if terminal else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, counts: Mapping[str, int]) -> None:
        """One more input is finished; `counts` is what has been found so far, by name."""
        self._done += 1
        if self._bar is not None:
            self._bar.set_postfix(counts, refresh=False)
            self._bar.update()
        elif self._total is not None and self._is_time(self._total):
            self._told, self._told_at = self._done, time.monotonic()
            found = ", ".join(f"{name} {count}" for name, count in counts.items())
            log.info("%s: %d of %d, %s, %s", self._what, self._done, self._total, found, self._speed(self._total))

    def write(self, text: str) -> None:
        """Prints on stdout without tearing the bar apart."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def _is_time(self, total: int) -> bool:
        enough = self._done - self._told >= LINE_EVERY_SHARE * total
        return enough or time.monotonic() - self._told_at >= LINE_EVERY_S or self._done == total

    def _speed(self, total: int) -> str:
        rate = (self._done - self._start) / max(time.monotonic() - self._began, 1e-9)
        left = (total - self._done) / rate
        return f"{rate:.1f} inputs/s, {int(left // 60)} min {int(left % 60)} s left"
