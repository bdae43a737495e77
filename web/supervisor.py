"""Keeps one worker process alive: starts it, hears from it, and starts it again when it dies."""

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from dfpipe.errors import DfpipeError, ResourceError
from dfpipe.web.jobs import JobStore
from dfpipe.web.settings import Settings
from dfpipe.web.worker import work

log = logging.getLogger(__name__)

WATCH_S = 0.2  # between two looks at the worker
SWEEP_S = 600.0  # between two looks at what has expired
END_S = 10.0  # for which a worker that was asked to end is waited for
RETRY_S = 5.0  # before a worker that died while it loaded its model is started again


class Supervisor:
    """The server's side of the worker.

    Args:
        settings: Of the service.
        store: The jobs.
        on_failure: Called when the worker says that it can never start, as with a refused model file.
    """

    def __init__(self, settings: Settings, store: JobStore, on_failure: Callable[[], object]) -> None:
        self._settings, self._store, self._on_failure = settings, store, on_failure
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._swept = -SWEEP_S
        self.model: dict[str, Any] | None = None  # what the worker says of its model; None while it loads
        self.failure: DfpipeError | None = None

    def start(self) -> None:
        """Starts the worker; returns before it has loaded its model."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the worker; the job that it is at goes back to the queue."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._keep_one_alive()
        except Exception as error:  # without a worker the service is of no use: it ends, and says why
            log.exception("the supervisor of the worker failed")
            self.failure = DfpipeError(f"internal error, please report it: {type(error).__name__}: {error}")
            self._on_failure()

    def _keep_one_alive(self) -> None:
        while not self._stopping.is_set() and self.failure is None:
            ours, theirs = multiprocessing.Pipe(duplex=False)
            process = multiprocessing.get_context("spawn").Process(
                target=work, args=(self._settings, os.getpid(), theirs), name="dfpipe-worker"
            )
            process.start()
            theirs.close()  # so that the end of the worker is the end of what comes
            try:
                self._listen(ours)
            finally:
                was_ready, self.model = self.model is not None, None
                how = self._end(process)
                ours.close()
                self._empty_scratch()
            self._settle(how, was_ready)

    def _listen(self, worker: Connection) -> None:
        """Hears what the worker says until it is gone or the service stops."""
        while not self._stopping.is_set():
            self._sweep()
            if worker.poll(WATCH_S):
                try:
                    said = worker.recv()
                except (EOFError, OSError):  # it died, perhaps in the middle of a word
                    return
                if isinstance(said, DfpipeError):
                    self.failure = said
                    self._on_failure()
                    return
                self.model = said

    def _settle(self, how: str, was_ready: bool) -> None:
        """Deals with the job that the worker was at."""
        if self.failure is not None:
            return
        if self._stopping.is_set():
            self._written(self._store.hand_back)
            return
        log.warning("the worker process died (%s) and is started again", how)
        while not self._written(lambda: self._store.recover(f"the process that judged it died ({how})")):
            self._stopping.wait(RETRY_S)
        if not was_ready:
            self._stopping.wait(RETRY_S)

    def _written(self, change: Callable[[], object]) -> bool:
        """Changes the jobs, unless the disk is full. Returns True when there is no use in trying again."""
        try:
            change()
        except ResourceError as error:
            log.error("%s", error)
            return self._stopping.is_set()
        return True

    @staticmethod
    def _end(process: Any) -> str:
        """Makes sure that the worker is gone. Returns how it ended."""
        process.join(WATCH_S)  # of its own accord, if it died
        if process.exitcode is None:
            process.terminate()
            process.join(END_S)
        if process.exitcode is None:
            process.kill()
            process.join()
        code = process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _empty_scratch(self) -> None:
        """Removes what the worker had no time to remove, however it ended."""
        shutil.rmtree(self._settings.scratch, ignore_errors=True)
        with contextlib.suppress(OSError):  # a full disk: the next start makes it
            self._settings.scratch.mkdir(parents=True, exist_ok=True)

    def _sweep(self) -> None:
        """Removes what has expired, now and then."""
        if time.monotonic() - self._swept < SWEEP_S:
            return
        self._swept = time.monotonic()
        self._written(lambda: remove_expired(self._settings, self._store))


def remove_expired(settings: Settings, store: JobStore) -> None:
    """Forgets jobs that ended long enough ago, with their files.

    Raises:
        ResourceError: The disk is full.
    """
    for job_id in store.expire(settings.keep_days):
        remove_files(settings, job_id)


def remove_files(settings: Settings, job_id: str) -> None:
    """Removes the upload and the results of a job that is forgotten."""
    (settings.uploads / job_id).unlink(missing_ok=True)
    shutil.rmtree(settings.results / job_id, ignore_errors=True)
