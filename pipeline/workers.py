"""Run one function over many inputs, each in a process that can be killed.

Media files are untrusted and decoders hang, crash and swallow memory: no in-process timeout helps against a library that
holds the interpreter lock. So each input is worked on in a child process with a wall limit and a memory limit, and
whatever happens to the child, the input ends in one state and the others go on.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing import current_process
from typing import Any, Generic, TypeAlias, TypeVar

from dfpipe.child import is_child
from dfpipe.config import LimitsConfig
from dfpipe.errors import DfpipeError, MediaError, TooLargeMedia, UsageError, choose
from dfpipe.pool import UNGUARDED, Pool
from dfpipe.rayengine import Cluster, Crew
from dfpipe.rayworker import InActor

Input = TypeVar("Input")
Engine: TypeAlias = str | Cluster
RAY = "ray"


def run_all(
    task: Callable[[Input], Any],
    inputs: Iterable[Input | None],
    *,
    setup: Callable[[], None],
    engine: Engine = "local",
    workers: int = 0,
    bounds: LimitsConfig | None = None,
    meanwhile: Callable[[], None] | None = None,
    in_actor: InActor | None = None,
) -> Iterator[tuple[Input, Any]]:
    """Runs `task` over `inputs` and yields (input, result or MediaError) as they finish, in any order.

    Args:
        task: Module-level function of one input. A MediaError that it raises becomes the input's result.
        inputs: Taken from as work proceeds; at most a few are in flight. A None in between means "nothing for now": what
            is in flight goes on, and the next input is asked for again at once, so a source that waits for inputs may
            sleep a little before each None.
        setup: Module-level function called once in every process before its first input, to load networks.
        engine: A key of `ENGINES`, or a Ray cluster. Inside one of its own processes everything is worked on in that
            process.
        workers: Processes; 0 = one per core, of this machine or the cluster.
        bounds: What one input may cost; `serial` cannot enforce them.
        meanwhile: Called once, here, when the first processes are starting; not where there is no input. It loads what is
            needed for their results.
        in_actor: With `ray`: what each actor makes of every result of its child, see `dfpipe.rayworker.InActor`. The
            other engines leave that to the caller, who has the results in the process that is alike.

    Raises:
        ConfigError: Unknown engine.
        UsageError: The Ray cluster cannot be had, or one of its nodes does not see an input.
        DfpipeError: `setup` failed.
    """
    cluster = cluster_of(engine)
    runner = partial(_on_cluster, cluster, in_actor) if cluster is not None else choose(ENGINES, str(engine), "engine")
    if is_child():  # it may start no process, and need not
        runner = _serial
    return runner(task, inputs, setup, workers, bounds or LimitsConfig(), meanwhile or _nothing)


def cluster_of(engine: Engine) -> Cluster | None:
    """The Ray cluster that an engine stands for, if it does; never inside one of our own processes."""
    if is_child():
        return None
    return Cluster() if engine == RAY else engine if isinstance(engine, Cluster) else None


def isolated(task: Callable[[Input], Any], item: Input, bounds: LimitsConfig | None = None) -> Any:
    """Runs `task` on one thing in a process that can be killed, and returns its result.

    Args:
        task: Module-level function, of a module that loads quickly: the process starts for this alone.
        item: What it is given.
        bounds: What it may cost.

    Raises:
        MediaError: It raised one, or hung, crashed, or took too much memory.
    """
    ((_, outcome),) = run_all(task, [item], setup=_nothing, workers=1, bounds=bounds)
    if isinstance(outcome, MediaError):
        raise outcome
    return outcome


def _nothing() -> None:
    """Where there is nothing to load."""


def default_workers() -> int:
    """One worker per core that this process may use, at most 16: each holds its own networks in memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(cores, 16))


def _serial(
    task: Callable[[Input], Any],
    inputs: Iterable[Input | None],
    setup: Callable[[], None],
    workers: int,
    bounds: LimitsConfig,
    meanwhile: Callable[[], None],
) -> Iterator[tuple[Input, Any]]:
    """In this process, one after the other: for debugging on files that one trusts."""
    setup()
    waiting = True
    for item in inputs:
        if item is None:
            continue
        if waiting:
            meanwhile()
            waiting = False
        try:
            result = task(item)
        except MediaError as error:
            result = error
        except MemoryError:
            result = TooLargeMedia("needs more memory than there is: try --workers 1")
        yield item, result


def _local(
    task: Callable[[Input], Any],
    inputs: Iterable[Input | None],
    setup: Callable[[], None],
    workers: int,
    bounds: LimitsConfig,
    meanwhile: Callable[[], None],
) -> Iterator[tuple[Input, Any]]:
    """In child processes of this machine that are killed at their limits."""
    _check_main()
    return _through(Pool(task, setup, bounds, workers or default_workers()), inputs, meanwhile)


def _on_cluster(
    cluster: Cluster,
    in_actor: InActor | None,
    task: Callable[[Input], Any],
    inputs: Iterable[Input | None],
    setup: Callable[[], None],
    workers: int,
    bounds: LimitsConfig,
    meanwhile: Callable[[], None],
) -> Iterator[tuple[Input, Any]]:
    """In such child processes on the nodes of a Ray cluster."""
    return _through(Crew(cluster, task, setup, bounds, workers, in_actor), inputs, meanwhile)


def _through(
    pool: Pool | Crew, inputs: Iterable[Input | None], meanwhile: Callable[[], None]
) -> Iterator[tuple[Input, Any]]:
    source, waiting = _Source(inputs), True
    with pool:
        while True:
            for item in source.take(lambda: pool.room):
                pool.give(item)
            if waiting and pool.pending:
                meanwhile()
                waiting = False
            if not pool.pending and source.ended:
                return
            for item, outcome in pool.results(block=not source.idle and pool.pending > 0):
                if isinstance(outcome, DfpipeError) and not isinstance(outcome, MediaError):
                    raise outcome  # of the machine, as a full disk: no input can be blamed for it
                yield item, outcome


ENGINES: dict[str, Callable[..., Iterator[tuple[Any, Any]]]] = {
    "serial": _serial,
    "local": _local,
    RAY: partial(_on_cluster, Cluster(), None),
}


class _Source(Generic[Input]):
    """Inputs as they are needed."""

    def __init__(self, inputs: Iterable[Input | None]) -> None:
        self._inputs = iter(inputs)
        self.ended = False
        self.idle = False  # it said "nothing for now" when it was asked last

    def take(self, room: Callable[[], int]) -> Iterator[Input]:
        """Inputs as long as there is room for them, fewer where there are none for now."""
        self.idle = False
        while room() > 0:
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
        raise UsageError(UNGUARDED)
