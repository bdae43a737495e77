"""What a run makes, on its way to a store: there, at any time, the ledger names only what is there."""

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from dfpipe.errors import ResourceError
from dfpipe.ledger import LEDGER, Ledger
from dfpipe.store import Url, get, put

SETTLE_S = 60.0  # between two copies of the ledger: so much work is done again after a machine was lost
PAUSE = 10.0  # times what the last copy took, if that is longer: ledgers grow, and the run waits for each copy
_SENDERS = 16  # threads; they only wait
WAITING = 64  # inputs whose files may wait on the disk: 64 x 32 crops x 15 kB = 30 MB


def stored_ledger(url: Url, folder: Path) -> Ledger:
    """The ledger as it stands in a store, copied here; a new one if there is none.

    Args:
        url: Where results are.
        folder: Where this run works.

    Raises:
        ResourceError: The store does not give it.
    """
    get(url / LEDGER, folder / LEDGER)
    return Ledger(folder / LEDGER)


class Outbox:
    """Sends the files of inputs as they are made and deletes them here, and a copy of the ledger when they are all there.

    A store has no lock: whoever runs two commands to one place at a time gets the ledger of one of them.

    Args:
        url: Where the results are to be.
        folder: Where this run works.
        ledger: Of this run; open for longer than this is.
        tables: Names of what is written from the ledger.
        waiting: How much may wait on the disk, in calls of `send`.
    """

    def __init__(self, url: Url, folder: Path, ledger: Ledger, tables: Sequence[str], waiting: int = WAITING) -> None:
        self._waiting = waiting
        self._url, self._folder, self._ledger, self._tables = url, folder, ledger, tables
        self._sending: set[Future[None]] = set()
        self._failed = False
        self._known: int | None = None  # changes of the ledger that the store knows of
        self._took = 0.0  # s, for the last copy of the ledger

    def __enter__(self) -> "Outbox":
        self._threads = ThreadPoolExecutor(_SENDERS, thread_name_prefix="dfpipe-send")
        self.settle()  # whoever may not write there is told before the work begins
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._failed:
                self.settle()  # also of what was finished before Ctrl-C
        finally:
            self._threads.shutdown(cancel_futures=True)

    def send(self, made: Path) -> None:
        """Sends what was made of an input, which is in the ledger.

        Args:
            made: A file, or a folder of files, below the folder of this run; there may be none.

        Raises:
            ResourceError: The store does not take them, or did not take earlier ones.
        """
        if made.exists():
            self._sending.add(self._threads.submit(self._send, made))
        self._wait(self._waiting)
        if time.monotonic() - self._settled > max(SETTLE_S, PAUSE * self._took):
            self.settle()

    def settle(self) -> None:
        """Waits for all files, and copies the ledger if it says more than the one in the store.

        Raises:
            ResourceError: The store does not take them.
        """
        self._wait(0)
        self._settled = began = time.monotonic()
        if self._known == self._ledger.changes:
            return
        copy = self._folder / f"copy-of-{LEDGER}"
        self._ledger.copy(copy)
        self._put(copy, LEDGER)
        copy.unlink()
        self._known = self._ledger.changes
        self._settled = time.monotonic()
        self._took = self._settled - began

    def publish(self) -> None:
        """Sends the tables, after all files and before the ledger that says so.

        Raises:
            ResourceError: The store does not take them.
        """
        self._wait(0)
        for name in self._tables:
            self._put(self._folder / name, name)
        self.settle()

    def _send(self, made: Path) -> None:
        for path in sorted(made.iterdir()) if made.is_dir() else [made]:
            self._put(path, path.relative_to(self._folder).as_posix())
            path.unlink()
        if made.is_dir():
            made.rmdir()

    def _put(self, path: Path, name: str) -> None:
        try:
            put(path, self._url / name)
        except ResourceError:
            self._failed = True
            raise

    def _wait(self, most: int) -> None:
        """Until no more than so many inputs wait."""
        while self._sending:
            done, self._sending = wait(self._sending, 0 if len(self._sending) <= most else None, FIRST_COMPLETED)
            for future in done:
                future.result()
            if not done:
                return
