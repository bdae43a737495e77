"""Run one function over many inputs, each in a process that can be killed.

Media files are untrusted and decoders hang, crash and swallow memory: no in-process timeout helps against a library that
holds the interpreter lock. So each input is worked on in a child process with a wall limit and a memory limit, and
whatever happens to the child, the input ends in one state and the others go on.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from multiprocessing import current_process, get_context
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from dfpipe.errors import DfpipeError, MediaCrashed, MediaError, MediaTimeout, TooLargeMedia, UsageError, choose

Input = TypeVar("Input")

MAX_TRIES = 2  # a crash may be the machine's fault once
MAX_INPUTS_PER_PROCESS = 500  # then a fresh process takes over, so that leaks in decoders stay small
_UNGUARDED = (
    'the processes that read media cannot start: a script must call dfpipe below `if __name__ == "__main__":`, because '
    "they import the script"
)
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl(2)


@dataclass(frozen=True)
class Bounds:
    """What one input may cost."""

    seconds: float = 180.0
    memory_gb: float = 4.0


def run_all(
    task: Callable[[Input], Any],
    inputs: Iterable[Input | None],
    *,
    setup: Callable[[], None],
    engine: str = "local",
    workers: int = 0,
    bounds: Bounds | None = None,
) -> Iterator[tuple[Input, Any]]:
    """Runs `task` over `inputs` and yields (input, result or MediaError) as they finish, in any order.

    Args:
        task: Module-level function of one input. A MediaError that it raises becomes the input's result.
        inputs: Taken from as work proceeds; at most a few are in flight. A None in between means "nothing for now": what
            is in flight goes on, and the next input is asked for again at once, so a source that waits for inputs may
            sleep a little before each None.
        setup: Module-level function called once in every process before its first input, to load networks.
        engine: A key of `ENGINES`.
        workers: Processes; 0 = one per core.
        bounds: What one input may cost; `serial` cannot enforce them.

    Raises:
        ConfigError: Unknown engine.
        DfpipeError: `setup` failed.
    """
    runner = choose(ENGINES, engine, "engine")
    return runner(task, inputs, setup, workers or default_workers(), bounds or Bounds())


def default_workers() -> int:
    """One worker per core that this process may use, at most 16: each holds its own networks in memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(cores, 16))


def _serial(
    task: Callable[[Input], Any],
    inputs: Iterable[Input | None],
    setup: Callable[[], None],
    workers: int,
    bounds: Bounds,
) -> Iterator[tuple[Input, Any]]:
    """In this process, one after the other: for debugging on files that one trusts."""
    setup()
    for item in inputs:
        if item is None:
            continue
        try:
            result = task(item)
        except MediaError as error:
            result = error
        except MemoryError:
            result = TooLargeMedia("needs more memory than there is")
        yield item, result


def _local(
    task: Callable[[Input], Any],
    inputs: Iterable[Input | None],
    setup: Callable[[], None],
    workers: int,
    bounds: Bounds,
) -> Iterator[tuple[Input, Any]]:
    """In child processes of this machine that are killed at their limits."""
    _check_main()
    pool = ProcessPool(
        max_workers=workers,
        max_tasks=MAX_INPUTS_PER_PROCESS,
        context=get_context("spawn"),  # forking a process that holds torch's threads can hang
        initializer=_start_worker,
        initargs=(setup, bounds.memory_gb, os.getpid()),
    )
    waiting: dict[Any, tuple[Input, int]] = {}  # future -> input, which try this is
    source = _Source(inputs)
    try:
        while True:
            for item in source.take(2 * workers - len(waiting)):
                waiting[_scheduled(pool, task, item, bounds)] = (item, 1)
            if not waiting and source.ended:
                return
            done, _ = wait(waiting, timeout=0 if source.idle else None, return_when=FIRST_COMPLETED)
            for future in done:
                item, tries = waiting.pop(future)
                result = _outcome(future, bounds)
                if isinstance(result, MediaCrashed) and tries < MAX_TRIES:
                    waiting[_scheduled(pool, task, item, bounds)] = (item, tries + 1)
                else:
                    yield item, result
    finally:
        pool.stop()
        pool.join()


ENGINES: dict[str, Callable[..., Iterator[tuple[Any, Any]]]] = {"serial": _serial, "local": _local}


class _Source(Generic[Input]):
    """Inputs as they are needed."""

    def __init__(self, inputs: Iterable[Input | None]) -> None:
        self._inputs = iter(inputs)
        self.ended = False
        self.idle = False  # it said "nothing for now" when it was asked last

    def take(self, count: int) -> Iterator[Input]:
        """At most so many inputs, fewer where there are none for now."""
        self.idle = False
        for _ in range(count):
            try:
                item = next(self._inputs)
            except StopIteration:
                self.ended = True
                return
            if item is None:
                self.idle = True
                return
            yield item


def _check_main() -> None:
    """Workers import the script that started them; one that judges while it is imported would start workers of its own."""
    if getattr(current_process(), "_inheriting", False):  # as multiprocessing's own check has it
        raise UsageError(_UNGUARDED)


def _scheduled(pool: Any, task: Callable[[Any], Any], item: Any, bounds: Bounds) -> Any:
    try:
        return pool.schedule(_run_one, args=[task, item], timeout=bounds.seconds)
    except RuntimeError as error:  # the pool gave up, because its processes end before they begin
        raise UsageError(_UNGUARDED) from error


def _outcome(future: Any, bounds: Bounds) -> Any:
    """The result of a finished future, with every way in which a child can end turned into a MediaError."""
    try:
        return future.result()
    except TimeoutError:
        return MediaTimeout(f"took longer than {bounds.seconds:g} s and was stopped")
    except ProcessExpired as error:
        return MediaCrashed(f"the process reading it died ({_how_it_died(error)})")
    except MediaError as error:
        return error
    except MemoryError:
        return TooLargeMedia(f"needs more than the {bounds.memory_gb:g} GB of memory that one input may use")
    except DfpipeError:
        raise  # the set-up failed: no input could ever succeed
    except Exception as error:  # a bug met on one input must not stop the other hundred thousand
        return MediaCrashed(f"internal error, please report it: {type(error).__name__}: {error}")


def _how_it_died(error: Any) -> str:
    code = error.exitcode if isinstance(error.exitcode, int) else 0
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


# ---- inside the child -------------------------------------------------------------------------------------------

_setup_error: BaseException | None = None
_memory_gb = 0.0


def _start_worker(setup: Callable[[], None], memory_gb: float, parent: int) -> None:
    """Prepares a child: it dies with its parent, leaves Ctrl-C to it, is silent, loads its networks, then is limited."""
    global _setup_error, _memory_gb
    _memory_gb = memory_gb
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _silence()
    try:
        _limit_threads()
        setup()
    except BaseException as error:  # an initializer that raises would leave the pool dead without a reason
        _setup_error = error


def _run_one(task: Callable[[Any], Any], item: Any) -> Any:
    if _setup_error is not None:
        raise _setup_error
    _limit_memory(_memory_gb)
    try:
        return task(item)
    finally:
        _give_back()


def die_with_parent(parent: int) -> None:
    """Lets this process die when its parent does, however that dies. Only Linux can; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


def _silence() -> None:
    """Decoders write their complaints to the terminal from C; the reason of a failure travels as an exception."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def _limit_threads() -> None:
    """The workers share the cores among them."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _limit_memory(memory_gb: float) -> None:
    """Allows so much address space on top of what is taken now.

    That is what the libraries take (5 GB with a CUDA build of torch), and what the allocator keeps of earlier inputs: some
    4 GB after a dozen clips, measured, against a limit of which an input later failed or was decoded by another reader.
    What an input may take must not depend on those before it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return  # macOS does not enforce RLIMIT_AS; the wall limit still holds
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + int(memory_gb * 1e9), hard))


def _give_back() -> None:
    """Returns freed memory to the system, which glibc's allocator keeps: measured, 2.5 GB of 3.7 after a dozen clips."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
