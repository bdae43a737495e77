"""The engine `ray`: inputs are worked on by actors of a Ray cluster, each with a killable child of its own.

Ray starts the actors, carries inputs and results, and says when a node is lost. What is done and what is not stays our
ledger's business: actors and inputs are never restarted by Ray, but here, where tries are counted.

Ray is imported only when there is a first input.
"""

import contextlib
import logging
import os
import pickle
import secrets
import shutil
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from dfpipe import __version__
from dfpipe.config import LimitsConfig
from dfpipe.errors import MediaCrashed, MediaTimeout, ResourceError, UsageError
from dfpipe.extras import need
from dfpipe.pool import MAX_FAILED_STARTS, MAX_TRIES, START_S, Errand
from dfpipe.rayworker import Failed, InActor, Unseen, Worker, packed
from dfpipe.signals import STOPS, Terminated

AHEAD = 2  # inputs at an actor: one at work, one already there when it is done
LOOK_S = 1.0  # between two looks at what is overdue
GROWTH_S = 5.0  # between two looks at how large the cluster is
PATIENCE_S = 60.0  # without any actor, until the user is told
REACH_S = 10.0  # for the head of a cluster to take a connection
CLOSE_S = 5.0  # for actors to tidy up
# Of the object store of a cluster of our own, bytes: Ray wants 79 MB at least; results on their way are 6 MB for the 32
# crops of a clip, AHEAD of them per actor, and Ray writes to disk what does not fit.
STORE_BYTES, STORE_BYTES_PER_WORKER = 80_000_000, 24_000_000
# Read when Ray is imported or starts. No telemetry; no upload of the working directory where `uv run` started us; and no
# warning about GPUs that are hidden from actors which asked for none.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """Where the engine works.

    Attributes:
        address: HOST:PORT of a cluster that exists, or "auto" for the one on this machine; None = what RAY_ADDRESS says,
            else a cluster of our own on this machine, which ends with the run.
        gpus_per_worker: Share of a GPU that each actor reserves.
    """

    address: str | None = None
    gpus_per_worker: float = 0.0


@dataclass(eq=False)
class _Member:
    """One actor, as the driver sees it."""

    actor: Any
    hello: Any  # reference to its introduction
    node: str = ""  # empty until it is ready
    since: float = 0.0  # when its first errand came to be the first, on the monotonic clock
    errands: deque[tuple[Any, Errand]] = field(default_factory=deque)  # with the reference to the answer, in order


@dataclass
class Crew:
    """Actors that work through inputs; stands where `dfpipe.pool.Pool` stands for the processes of one machine.

    Args:
        cluster: Where.
        task: Module-level function of one input, in a module that can be imported on every node.
        setup: Module-level function called once in every child before its first input.
        bounds: What one input may cost.
        workers: Actors at most; 0 = as many as the cluster has room for, also when it grows. More than there is room for
            are waited for, which makes a cluster grow that can; those that are there work meanwhile.
        in_actor: What an actor makes of every result of its child.
    """

    cluster: Cluster
    task: Callable[[Any], Any]
    setup: Callable[[], None]
    bounds: LimitsConfig
    workers: int
    in_actor: InActor | None = None
    pending: int = 0  # inputs that were given and have not come back
    _members: list[_Member] = field(default_factory=list)
    _todo: deque[Errand] = field(default_factory=deque)
    _most: int = 1  # actors wanted now
    _counted: float = float("-inf")  # when that was looked at
    _failed_starts: int = 0  # one after the other
    _exits: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _ray: Any = None  # the module, once we are connected

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._exits:
            if self._ray is not None and kind is None:
                closing = [member.actor.close.remote() for member in self._members if member.node]
                if closing:
                    self._ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
            while self._members:
                self._dismiss(self._members[0])

    @property
    def room(self) -> int:
        """How many more inputs are wanted."""
        return AHEAD * self._most - self.pending

    def give(self, item: Any) -> None:
        """Takes one more input in hand; the first is what the cluster is started or joined for.

        Raises:
            UsageError: Ray is not installed, or the cluster cannot be reached.
        """
        if self._ray is None:
            self._ray = self._exits.enter_context(connected(self.cluster, self.workers))
            self._began = time.monotonic()
            self._work = packed(self.task, self.setup)
            # Once for all actors: it may hold a network.
            self._in_actor = self._ray.put(pickle.dumps(self.in_actor)) if self.in_actor is not None else None
        self.pending += 1
        self._todo.append(Errand(item))
        self._man()

    def results(self, block: bool) -> list[tuple[Any, Any]]:
        """(input, outcome) of those that are finished; waits for one if asked to.

        Raises:
            DfpipeError: Actors or their children cannot start, a set-up failed, or a node does not see an input.
        """
        if self._ray is None:
            return []
        while True:
            self._man()
            self._hand_out()
            found = self._finished(LOOK_S if block else 0.0)
            self.pending -= len(found)
            if found or not block:
                return found

    # ---- actors ------------------------------------------------------------------------------------------------------

    def _man(self) -> None:
        """Asks for the actors that are missing; no more than there are inputs."""
        now = time.monotonic()
        if now > self._counted + GROWTH_S:
            self._counted, self._most = now, self.workers or self._places()
            self._tell_if_alone(now)
        for _ in range(min(self._most, self.pending) - len(self._members)):
            actor = (
                self._ray.remote(Worker)
                .options(num_cpus=1, num_gpus=self.cluster.gpus_per_worker, max_restarts=0, max_task_retries=0)
                .remote(self._work, self._in_actor, self.bounds, os.getcwd())
            )
            self._members.append(_Member(actor, actor.introduce.remote()))

    def _places(self) -> int:
        """How many actors the cluster has room for; at least one, so that it starts to grow if it can."""
        has, gpus = self._ray.cluster_resources(), self.cluster.gpus_per_worker
        places = has.get("CPU", 0.0)
        return max(1, int(min(places, has.get("GPU", 0.0) / gpus) if gpus else places))

    def _tell_if_alone(self, now: float) -> None:
        if now > self._began + PATIENCE_S and not any(member.node for member in self._members):
            self._began = now
            gpus = f" and {self.cluster.gpus_per_worker:g} GPU" if self.cluster.gpus_per_worker else ""
            log.warning("ray: the cluster has no room for a worker yet (1 CPU%s each); waiting", gpus)

    def _dismiss(self, member: _Member) -> None:
        """Ends an actor at once, whatever it is at; its child dies with it."""
        self._members.remove(member)
        with contextlib.suppress(Exception):  # it is gone already, or the whole cluster is
            self._ray.kill(member.actor)

    # ---- inputs ------------------------------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        for ahead in range(AHEAD):  # every actor gets a first one before any gets a second
            for member in self._members:
                if self._todo and member.node and len(member.errands) == ahead:
                    self._send(member, self._todo.popleft())

    def _send(self, member: _Member, errand: Errand) -> None:
        path = path_of(errand.item)
        seen = str(path) if path is not None and path.exists() else None
        if not member.errands:
            member.since = time.monotonic()
        answer = member.actor.work.remote(pickle.dumps(errand.item), seen)
        member.errands.append((answer, errand))

    def _finished(self, timeout: float) -> list[tuple[Any, Any]]:
        """Waits for something to happen, and deals with it."""
        waited = [ref for m in self._members for ref in ([m.hello] if not m.node else [ref for ref, _ in m.errands])]
        if waited:
            self._ray.wait(waited, num_returns=1, timeout=timeout)
            ready = set(self._ray.wait(waited, num_returns=len(waited), timeout=0)[0])
        else:
            ready = set()
            time.sleep(timeout)
        found: list[tuple[Any, Any]] = []
        for member in list(self._members):
            if not member.node:
                self._welcome(member, ready)
                continue
            found += self._answers(member, ready)
            if member.errands and time.monotonic() > member.since + self._limit:
                found += self._end_late(member)
        return found

    @property
    def _limit(self) -> float:
        """Wall time after which an actor is given up, in s: its own limits should have ended the input long before."""
        return MAX_TRIES * (START_S + self.bounds.seconds_at_most)

    def _welcome(self, member: _Member, ready: set[Any]) -> None:
        """Learns that an actor is there, or never will be."""
        if member.hello not in ready:
            return
        try:
            member.node, version = self._ray.get(member.hello)
        except self._ray.exceptions.RayError as error:
            self._dismiss(member)
            self._failed_starts += 1
            if self._failed_starts > MAX_FAILED_STARTS:
                raise ResourceError(
                    f"the workers of the Ray cluster cannot start ({_why(error)}): every node needs the same Python and the "
                    f"same dfpipe ({__version__}) with its extra ray"
                ) from error
            return
        if version != __version__:
            raise UsageError(
                f"{member.node} has dfpipe {version} and this machine {__version__}: install the same on every node"
            )
        self._failed_starts = 0

    def _answers(self, member: _Member, ready: set[Any]) -> Iterator[tuple[Any, Any]]:
        """What an actor has finished."""
        while member.errands and member.errands[0][0] in ready:
            reference, errand = member.errands[0]
            try:
                answer = self._ray.get(reference)
            except (
                self._ray.exceptions.RayTaskError
            ) as error:  # not the input's fault: what we sent cannot be read there
                raise ResourceError(f"a worker on {member.node} failed: {_why(error)}") from error
            except self._ray.exceptions.RayError as error:
                yield from self._bury(member, error)
                return
            member.errands.popleft()
            member.since = time.monotonic()
            if isinstance(answer, Failed):
                raise answer.error
            if isinstance(answer, Unseen):
                self._ask_another(member, errand)
            else:
                yield errand.item, pickle.loads(answer) if isinstance(answer, bytes) else answer

    def _bury(self, member: _Member, error: Exception) -> Iterator[tuple[Any, Any]]:
        """Gives what a dead actor had to others. Only the input that it was working on may have killed it."""
        log.warning("ray: a worker on %s is lost: %s", member.node, _why(error))
        errand = self._take_back(member)
        errand.tries += 1
        if errand.tries < MAX_TRIES:
            self._todo.appendleft(errand)
        else:
            yield errand.item, MediaCrashed(f"the worker that had it died {errand.tries} times ({_why(error)})")

    def _end_late(self, member: _Member) -> Iterator[tuple[Any, Any]]:
        """The last resort."""
        log.warning("ray: a worker on %s does not answer and is ended", member.node)
        errand = self._take_back(member)
        yield errand.item, MediaTimeout(f"its worker did not answer for {self._limit:.0f} s and was ended")

    def _take_back(self, member: _Member) -> Errand:
        """Ends an actor. What it had not begun goes back in its order; the one it was at is returned."""
        self._dismiss(member)
        first, *others = (errand for _, errand in member.errands)
        self._todo.extendleft(reversed(others))
        return first

    def _ask_another(self, member: _Member, errand: Errand) -> None:
        """Tries once more where a node does not see an input.

        Raises:
            UsageError: That was it.
        """
        errand.tries += 1
        if errand.tries >= MAX_TRIES:
            raise UsageError(
                f"{member.node} does not find {path_of(errand.item)}, which is there on this machine: inputs must lie in a "
                "folder that every node of the cluster sees under the same path; what is finished is kept"
            )
        self._todo.appendleft(errand)


def path_of(item: Any) -> Path | None:
    """The first path in an input: the file that a node must see."""
    if isinstance(item, Path):
        return item
    parts: Any = ()
    if is_dataclass(item):
        parts = (getattr(item, part.name) for part in fields(item))
    elif isinstance(item, tuple):
        parts = item
    return next((path for path in map(path_of, parts) if path is not None), None)


# ---- the cluster -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(cluster: Cluster, workers: int) -> Iterator[Any]:
    """Ray, connected: to what this process is connected to already, the cluster that was named, or one of our own.

    Raises:
        UsageError: Ray is not installed, or the cluster cannot be reached.
    """
    address = cluster.address or os.environ.get("RAY_ADDRESS") or ""
    if address:
        _check_address(address)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    ray._private.worker._worker_logs_enabled = False  # else it tells of lost actors on stdout, where --json writes
    session = None  # the folder of the logs of a cluster of our own
    if address:
        _init(ray, f"cannot join the Ray cluster at {address}", address=address)
        log.info("ray: joined the cluster at %s", address)
    else:
        session = _start(ray, cluster, workers)
    try:
        yield ray
    finally:
        ray.shutdown()
        if session is not None:
            shutil.rmtree(session, ignore_errors=True)


def _ray() -> Any:
    need("--engine ray", "ray", ["ray"])
    import ray
    import ray.exceptions

    return ray


def _check_address(address: str) -> None:
    """Ray itself would try for minutes where nobody answers.

    Raises:
        UsageError: Nobody listens there, or for another kind of driver.
    """
    if address.startswith("ray://"):
        raise UsageError(
            f"{address} is for Ray Client, which dfpipe does not use: run this on a node of the cluster, with --address "
            "auto or HOST:PORT of its head"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return  # "auto" and the like
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except OSError as error:
        raise UsageError(
            f"cannot reach a Ray cluster at {address} ({error.strerror or error}): give the address of its head, as "
            "'ray start --head' tells it"
        ) from error


def _start(ray: Any, cluster: Cluster, workers: int) -> Path:
    """Starts a cluster on this machine; returns the folder of its logs.

    Its ports can be reached from the network, and who may use them may run anything here. Since 2.59 Ray asks for a token
    by default: ours lives in the environment of this process and its children alone, not in a file for all runs.
    """
    from dfpipe.workers import default_workers

    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    size = workers or default_workers()
    context = _init(
        ray,
        "cannot start Ray on this machine",
        address="local",
        num_cpus=size,
        num_gpus=None if cluster.gpus_per_worker else 0,
        object_store_memory=STORE_BYTES + size * STORE_BYTES_PER_WORKER,
        include_dashboard=False,
    )
    gpus = ray.cluster_resources().get("GPU", 0.0)
    if gpus < cluster.gpus_per_worker:
        ray.shutdown()
        raise UsageError(f"--gpus-per-worker {cluster.gpus_per_worker:g}: Ray finds {gpus:g} GPUs on this machine")
    log.info("ray: started a cluster for %d workers on this machine", size)
    return Path(context.address_info["session_dir"])


def _init(ray: Any, failure: str, **how: Any) -> Any:
    """Starts or joins, and leaves the handling of signals as it was: Ray sets a handler of its own for SIGTERM."""
    handlers = {which: signal.getsignal(which) for which in STOPS}
    try:
        return ray.init(log_to_driver=False, logging_level=logging.ERROR, **how)
    except SystemExit as error:  # that handler of Ray's
        raise Terminated from error
    except (ConnectionError, RuntimeError, TimeoutError, ValueError, ray.exceptions.RayError) as error:
        raise UsageError(
            f"{failure}: {_why(error)}; a cluster that wants a token is joined with RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN or a file ~/.ray/auth_token; its nodes need the same Python and Ray"
        ) from error
    finally:
        with contextlib.suppress(
            ValueError
        ):  # only the main thread may set handlers, and Ray leaves them alone elsewhere
            for which, handler in handlers.items():
                signal.signal(which, handler)


def _why(error: BaseException) -> str:
    """Of Ray's long messages what happened: the first sentence of the last line that says anything."""
    told = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {told[-1].split('. ')[0]}" if told else type(error).__name__
