"""Processes that can be killed, each working on one input at a time, on a pipe of its own.

Why not a library's pool: in concurrent.futures one death ends the whole pool. In pebble 5.2 all processes share a queue and
its lock, with which a killed one may take the others along; one that leaves with exit code 0 is not missed before its wall
limit; that limit follows the clock on the wall, which jumps; and only the process is killed, not what it started.
"""

import contextlib
import functools
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from dfpipe.child import READY, Allow, Done, serve
from dfpipe.config import LimitsConfig
from dfpipe.errors import MediaCrashed, MediaTimeout, ResourceError, UsageError
from dfpipe.files import scratch_folder
from dfpipe.sandbox import enforced

MAX_TRIES = 2  # a crash may be the machine's fault once
MAX_INPUTS_PER_PROCESS = (
    5000  # then another takes over, as leaks of decoders add up; its start costs as much as 150 stills
)
MAX_FAILED_STARTS = 3  # one after the other
START_S = 300.0  # for loading libraries and networks, from a slow disk
LOOK_S = 1.0  # between two looks at whether a process lives: what it started may keep its pipe open
END_S = 5.0  # for a process to leave by itself when its pipe is closed
UNGUARDED = (
    'the processes that read media cannot start: a script must call dfpipe below `if __name__ == "__main__":`, because '
    "they import the script"
)
_WAKE: tuple[Any, Any] = (None, None)  # is no result, but ends the waiting for one

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Errand:
    """One input on its way."""

    item: Any
    tries: int = 0


@dataclass(eq=False)
class _Worker:
    """One process."""

    process: Any
    pipe: Connection
    folder: Path
    deadline: float  # on the monotonic clock: of its start, then of each errand
    ready: bool = False
    began: float = 0.0
    allowed: float = 0.0  # s
    starved: float = 0.0  # s without a core, before the errand began
    errand: Errand | None = None
    done: int = 0  # errands

    def begin(self, errand: Errand, seconds: float) -> None:
        """Sends an errand; from here on its time counts."""
        errand.tries += 1
        self.errand, self.allowed, self.began = errand, seconds, time.monotonic()
        self.starved = _starved(self.process.pid)
        self.deadline = self.began + seconds
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died meanwhile: seen when it is looked at
            self.pipe.send(errand.item)

    def overdue(self, most: float) -> bool:
        """Whether its time is up. Time for which the machine had no core for it does not count, up to `most` s in all."""
        late = _starved(self.process.pid) - self.starved if self.ready else 0.0
        self.deadline = max(self.deadline, min(self.began + self.allowed + late, self.began + most))
        return time.monotonic() > self.deadline

    @property
    def is_old(self) -> bool:
        """Whether it has done its share."""
        return self.done >= MAX_INPUTS_PER_PROCESS

    def kill(self) -> None:
        """Ends the process and all that it started, whatever they are at."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its own group since it began
        self.process.kill()  # if it has no group yet
        self.process.join()
        self.pipe.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Pool:
    """Children that work through inputs. A thread watches over them, so that limits hold whatever the caller is at.

    Args:
        task: Module-level function of one input; its module is loaded before the first, whose time has not begun then.
        start: Module-level function called once in every child before its first input.
        bounds: What one input may cost.
        size: Children at work at most, one more while it starts in place of an old one; no more are started than there are
            inputs.
    """

    task: Callable[[Any], Any]
    start: Callable[[], None]
    bounds: LimitsConfig
    size: int
    pending: int = 0  # inputs that were given and have not come back
    _workers: list[_Worker] = field(default_factory=list)
    _todo: deque[Errand] = field(default_factory=deque)
    _results: SimpleQueue[tuple[Any, Any]] = field(default_factory=SimpleQueue)
    _failure: BaseException | None = None  # after which nothing can succeed
    _stopping: bool = False
    _started: bool = False  # whether a child ever was ready
    _failed_starts: int = 0  # one after the other

    def __enter__(self) -> "Pool":
        _warn_once()
        self._context = get_context("spawn")  # forking a process that holds torch's threads can hang
        self._heard, self._bell = self._context.Pipe(duplex=False)
        self._scratch = contextlib.ExitStack()
        self._folder = self._scratch.enter_context(scratch_folder())
        self._thread = threading.Thread(target=self._watch, name="dfpipe-pool", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._ring()
        self._thread.join()
        self._heard.close()
        self._bell.close()
        self._scratch.close()

    @property
    def room(self) -> int:
        """How many more inputs are wanted: the next one shall be there when a child is done."""
        return 2 * self.size - self.pending

    def give(self, item: Any) -> None:
        """Takes one more input in hand."""
        self.pending += 1
        self._todo.append(Errand(item))
        self._ring()

    def results(self, block: bool) -> list[tuple[Any, Any]]:
        """(input, outcome) of those that are finished; waits for one if asked to.

        Raises:
            DfpipeError: The children cannot start, or their set-up failed.
        """
        found: list[tuple[Any, Any]] = []
        with contextlib.suppress(Empty):
            while True:
                found.append(self._results.get(block=block and not found and self._failure is None))
        finished = [result for result in found if result is not _WAKE]
        if self._failure is not None and not finished:
            raise self._failure
        self.pending -= len(finished)
        return finished

    def _ring(self) -> None:
        self._bell.send_bytes(b".")

    # ---- in the thread -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        # Children inherit this: Ctrl-C at a terminal reaches them too until they have a group of their own.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            while not self._stopping:
                self._hand_out()
                self._listen()
        except BaseException as error:
            self._failure = error
            self._results.put(_WAKE)
        finally:
            for worker in self._workers:
                worker.kill()

    def _hand_out(self) -> None:
        """Gives errands to those who are free, and starts as many children as there is work for."""
        self._renew()
        for worker in [w for w in self._workers if w.ready and w.errand is None][: len(self._todo)]:
            worker.begin(self._todo.popleft(), self.bounds.seconds)
        starting = sum(not w.ready for w in self._workers)
        places = self.size + any(w.is_old for w in self._workers)  # old ones work on until another is ready
        for _ in range(min(places - len(self._workers), len(self._todo) - starting)):
            self._workers.append(self._new())

    def _renew(self) -> None:
        """Lets old children go, one for each that stands ready in its place: all are of one age, and none shall wait."""
        spare = sum(w.ready for w in self._workers) - self.size
        for worker in [w for w in self._workers if w.is_old and w.errand is None][: max(0, spare)]:
            self._workers.remove(worker)
            worker.kill()

    def _new(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        process = self._context.Process(
            target=serve, args=(theirs, self.task, self.start, self.bounds, os.getpid(), str(folder)), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours, folder, time.monotonic() + START_S)

    def _listen(self) -> None:
        """Waits for something to happen, and deals with it."""
        busy = [w for w in self._workers if w.errand is not None or not w.ready]
        soon = min((w.deadline for w in busy), default=float("inf")) - time.monotonic()
        timeout = max(0.0, min(soon, LOOK_S)) if busy else None
        wait([self._heard, *(w.pipe for w in self._workers), *(w.process.sentinel for w in self._workers)], timeout)
        while self._heard.poll():
            self._heard.recv_bytes()
        for worker in list(self._workers):
            alive = worker.process.exitcode is None  # asked first: what it sent before it died is read below
            if not self._messages(worker) or not alive:
                self._bury(worker)
            elif worker in busy and time.monotonic() > worker.deadline and worker.overdue(self.bounds.seconds_at_most):
                self._end_late(worker)

    def _messages(self, worker: _Worker) -> bool:
        """Reads what a child has sent. False if it has nothing more to say, ever."""
        while not worker.pipe.closed:
            try:
                if not worker.pipe.poll():
                    break
                message = worker.pipe.recv()
            except Exception:  # it has ended, or what it sent cannot be understood
                return False
            self._message(worker, message)
        return True

    def _message(self, worker: _Worker, message: Any) -> None:
        if isinstance(message, Done):
            self._finish(worker, message.outcome)
            worker.done += 1
        elif isinstance(message, Allow):
            worker.allowed = max(worker.allowed, min(message.seconds, self.bounds.seconds_at_most))
            worker.deadline = worker.began + worker.allowed
        elif message == READY:
            worker.ready = self._started = True
            self._failed_starts = 0
        else:
            raise message  # the set-up failed: no input could ever succeed

    def _finish(self, worker: _Worker, outcome: Any) -> None:
        errand, worker.errand = worker.errand, None
        if errand is not None:
            self._results.put((errand.item, outcome))

    def _end_late(self, worker: _Worker) -> None:
        if not worker.ready:
            self._start_again(worker, f"took more than {START_S:g} s to start")
            return
        self._end(
            worker,
            MediaTimeout(
                f"took longer than {worker.allowed:.0f} s and was stopped (preprocess.limits.seconds and seconds_at_most)"
            ),
        )

    def _start_again(self, worker: _Worker, why: str) -> None:
        """Drops a child that never was ready; another takes its place, unless it is always so.

        Raises:
            ResourceError: It is.
        """
        self._workers.remove(worker)
        worker.kill()
        self._failed_starts += 1
        if self._failed_starts > MAX_FAILED_STARTS:
            raise ResourceError(f"a process that reads media {why}: too little memory or a slow disk; try --workers 1")

    def _bury(self, worker: _Worker) -> None:
        """What becomes of the input of a child that died."""
        worker.process.join(END_S)
        code = worker.process.exitcode
        if not worker.ready:
            if code == 1 and not self._started:
                raise UsageError(UNGUARDED)
            self._start_again(worker, f"died while it started ({_how_it_died(code)})")
            return
        if code == -signal.SIGXCPU:
            self._end(worker, MediaTimeout("took more processor time than allowed and was stopped"))
        else:
            self._end(worker, MediaCrashed(f"the process reading it died ({_how_it_died(code)})"))

    def _end(self, worker: _Worker, error: MediaCrashed | MediaTimeout) -> None:
        self._workers.remove(worker)
        worker.kill()
        errand = worker.errand
        if errand is not None and isinstance(error, MediaCrashed) and errand.tries < MAX_TRIES:
            self._todo.append(errand)
        else:
            self._finish(worker, error)


@functools.cache
def _warn_once() -> None:
    if not enforced():
        log.warning("this system does not enforce memory limits: only the wall limit guards against hostile files here")


def _starved(pid: int) -> float:
    """How long a process has waited for a core so far, in s; Linux counts that."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc", str(pid), "schedstat").read_text().split()[1]) / 1e9
    return 0.0


def _how_it_died(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
