"""Inputs that lie in a store, fetched ahead of the processes that work on them.

Those processes have no network, by design: they parse what strangers send. So threads of this process fetch a few files
ahead, and each is deleted when its result is dealt with.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any, Protocol, TypeVar

from dfpipe.config import LimitsConfig
from dfpipe.errors import MediaError
from dfpipe.store import fetch
from dfpipe.types import Origin
from dfpipe.workers import default_workers, run_all

FETCHES = 4  # at a time at least; else as many as there are processes
PATIENCE_S = 0.05  # between two looks at whether something has arrived


class Fetchable(Protocol):
    """An input that may lie in a store."""

    @property
    def origin(self) -> Origin | None:
        """Where it lies; None if it is at `path`."""

    @property
    def path(self) -> Path:
        """Where it is worked on."""


Input = TypeVar("Input", bound=Fetchable)


def run_fetched(
    task: Callable[[Input], Any],
    inputs: Iterable[Input | None],
    *,
    workers: int = 0,
    bounds: LimitsConfig | None = None,
    **running: Any,
) -> Iterator[tuple[Input, Any]]:
    """As `run_all`, for inputs that may lie in a store. One that cannot be fetched ends in a MediaError of its own.

    At most three files for each process, and no fewer than `FETCHES`, are on the disk at a time: two that it is given (see
    `run_all`) and one that waits.
    """
    with _Fetcher(inputs, max(FETCHES, workers or default_workers()), bounds or LimitsConfig()) as fetcher:
        for item, result in run_all(task, fetcher.arrivals(), workers=workers, bounds=bounds, **running):
            yield item, result
            if item.origin is not None:
                item.path.unlink(missing_ok=True)
            yield from fetcher.failures()
        yield from fetcher.failures()


class _Fetcher:
    """Fetches some inputs ahead."""

    def __init__(self, inputs: Iterable[Any], ahead: int, limits: LimitsConfig) -> None:
        self._inputs, self._ahead, self._limits = iter(inputs), ahead, limits
        self._stop = Event()
        self._coming: dict[Future[None], Any] = {}
        self._failed: deque[tuple[Any, MediaError]] = deque()

    def __enter__(self) -> "_Fetcher":
        self._threads = ThreadPoolExecutor(self._ahead, thread_name_prefix="dfpipe-fetch")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._threads.shutdown(cancel_futures=True)

    def failures(self) -> Iterator[tuple[Any, MediaError]]:
        """Those that could not be fetched, since this was asked last."""
        while self._failed:
            yield self._failed.popleft()

    def arrivals(self) -> Iterator[Any]:
        """Inputs that are there, as they arrive; None for "nothing for now"."""
        more = True
        while more or self._coming:
            while more and len(self._coming) < self._ahead:
                try:
                    item = next(self._inputs)
                except StopIteration:
                    more = False
                    break
                if item is None or item.origin is None:
                    yield item
                    if item is None:
                        break
                else:
                    self._coming[self._threads.submit(fetch, item.origin, item.path, self._limits, self._stop)] = item
            if self._coming:
                yield from self._arrived()

    def _arrived(self) -> Iterator[Any]:
        done, _ = wait(self._coming, PATIENCE_S, FIRST_COMPLETED)
        if not done:
            yield None
        for future in done:
            item = self._coming.pop(future)
            try:
                future.result()
            except MediaError as error:
                item.path.unlink(missing_ok=True)
                self._failed.append((item, error))
            else:
                yield item
