"""What an extraction makes, on its way to a store: there, at any time, the ledger names only what is there."""

import shutil
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from dfpipe.errors import ResourceError
from dfpipe.ledger import LEDGER, Ledger
from dfpipe.preprocess.manifest import CONFIG, INPUTS, MANIFEST
from dfpipe.preprocess.publish import MISSING
from dfpipe.store import Url, get, put

SETTLE_S = 60.0  # between two copies of the ledger: so much work is done again after a machine was lost
_SENDERS = 16  # threads; they only wait
_WAITING = 64  # inputs whose crops may wait on the disk: 64 x 32 x 15 kB = 30 MB


class Outbox:
    """Sends crops as they are made and deletes them here, and a copy of the ledger when they are all there.

    A store has no lock: whoever runs two extractions to one place at a time gets the ledger of one of them.

    Args:
        url: Where the results are to be.
        folder: Where this run works; empty at its beginning.
    """

    def __init__(self, url: Url, folder: Path) -> None:
        self._url, self._folder = url, folder
        self._sending: set[Future[None]] = set()
        self._failed = False

    def open_ledger(self) -> Ledger:
        """The ledger as it stands in the store, copied here; a new one if there is none.

        Raises:
            ResourceError: The store does not give it.
        """
        get(self._url / LEDGER, self._folder / LEDGER)
        self._ledger = Ledger(self._folder / LEDGER)
        return self._ledger

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

    def send(self, crops: Path) -> None:
        """Sends a folder of crops, whose input is in the ledger.

        Args:
            crops: Below the folder of this run; there may be none.

        Raises:
            ResourceError: The store does not take them, or did not take earlier ones.
        """
        if crops.is_dir():
            self._sending.add(self._threads.submit(self._send, crops))
        self._wait(_WAITING)
        if time.monotonic() - self._settled > SETTLE_S:
            self.settle()

    def settle(self) -> None:
        """Waits for all crops, and copies the ledger.

        Raises:
            ResourceError: The store does not take them.
        """
        self._wait(0)
        copy = self._folder / f"copy-of-{LEDGER}"
        self._ledger.copy(copy)
        self._put(copy, LEDGER)
        copy.unlink()
        self._settled = time.monotonic()

    def publish(self) -> None:
        """Sends the tables, after all crops and before the ledger that says so.

        Raises:
            ResourceError: The store does not take them.
        """
        self._wait(0)
        for name in (MANIFEST, INPUTS, CONFIG, MISSING):
            self._put(self._folder / name, name)
        self.settle()

    def _send(self, crops: Path) -> None:
        for path in sorted(crops.iterdir()):
            self._put(path, path.relative_to(self._folder).as_posix())
        shutil.rmtree(crops)

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
