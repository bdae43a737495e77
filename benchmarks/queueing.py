"""A simulation of how dfpipe hands inputs to workers: no clocks, no processes, the same seed gives the same result.

The rules are those of pipeline/pool.py and of actors on several machines. One driver hands inputs out in their order, each
costing it some milliseconds, to the worker that holds the fewest; a worker holds `in_flight` at most and works on one. An
input whose worker dies is tried again, `tries` times in all; one that reaches its wall limit is given up at once. A worker
whose child died or was killed starts anew. A lost node takes what its workers hold back to the queue, and returns.
"""

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf

DONE, CRASHED, TIMEOUT = "done", "crashed", "timeout"  # how an input ends


@dataclass(frozen=True)
class Item:
    """One input."""

    seconds: float  # of work of one worker; of a poisonous one, until it crashes
    fate: str = DONE
    arrives: float = 0.0  # s


@dataclass(frozen=True)
class Cluster:
    """What works on them. Times in s."""

    workers: int
    workers_per_node: int = 16
    in_flight: int = 2  # inputs that a worker holds at most, with the one it is at
    driver_s: float = 0.03  # of the driver for each input: of a DFDC clip, see docs/scaling.md; of a still a tenth
    limit_s: float = 30.0  # wall limit of one that hangs: preprocess.limits.seconds
    start_s: float = 4.0  # until a new child has loaded its networks
    tries: int = 2  # as MAX_TRIES of pipeline/pool.py
    node_life_s: float = inf  # mean time until a node is lost; exponentially distributed
    node_back_s: float = 300.0  # until another takes its place

    @property
    def nodes(self) -> int:
        """Machines, the last of which may be smaller."""
        return -(-self.workers // self.workers_per_node)


@dataclass
class Outcome:
    """What came of a simulation."""

    ends: Counter[str] = field(default_factory=Counter)
    delays: list[float] = field(default_factory=list)  # s from arrival to the first start of work, of each input
    makespan: float = 0.0  # s until the last has ended
    useful_s: float = 0.0  # worker-seconds on inputs that were done
    lost_s: Counter[str] = field(default_factory=Counter)  # worker-seconds by what took them
    driver_s: float = 0.0  # driver's time

    def utilisation(self, workers: int) -> float:
        """Share of all workers' time that went into inputs that were done."""
        return self.useful_s / (workers * self.makespan) if self.makespan else 0.0


@dataclass(eq=False)
class _Worker:
    node: int
    number: int
    up: bool = True
    life: int = 0  # changes with everything that makes what was planned for it void
    reserved: int = 0  # places promised to inputs that are on their way or here
    held: deque[int] = field(default_factory=deque)  # inputs, the first of them under way if `began` is set
    began: float | None = None


class _Run:
    """One simulation under way: what happens next is the earliest entry of a heap."""

    def __init__(self, items: Sequence[Item], cluster: Cluster, seed: int) -> None:
        self.items, self.cluster, self.out = items, cluster, Outcome()
        self.chance = random.Random(seed)
        self.workers = [_Worker(i // cluster.workers_per_node, i) for i in range(cluster.workers)]
        # Workers by the number of places taken; dicts, as sets have no order that could be repeated.
        self.free: list[dict[int, None]] = [{} for _ in range(cluster.in_flight + 1)]
        self.free[0] = dict.fromkeys(range(cluster.workers))
        self.queue: deque[int] = deque()
        self.tries = [0] * len(items)
        self.begun = [False] * len(items)
        self.driver_free, self.handing_out = 0.0, False
        self.now = 0.0
        self._order = itertools.count()
        self.pending = 0  # of what is planned, that which is no loss of a node and no return
        self._heap: list[tuple[float, int, int, Callable[[], None]]] = []

    def run(self) -> Outcome:
        """To the end of the last input."""
        for number in sorted(range(len(self.items)), key=lambda i: self.items[i].arrives):
            self.at(self.items[number].arrives, partial(self.arrive, number))
        if self.cluster.node_life_s < inf:
            for node in range(self.cluster.nodes):
                self.plan_loss(node, 0.0)
        while self._heap and sum(self.out.ends.values()) < len(self.items):
            self.now, _, counts, happens = heapq.heappop(self._heap)
            self.pending -= counts
            happens()
            if not self.pending and not self.queue and sum(self.out.ends.values()) < len(self.items):
                raise RuntimeError("the simulation has forgotten inputs")
        self.out.makespan = self.now
        return self.out

    def at(self, when: float, happens: Callable[[], None], counts: int = 1) -> None:
        self.pending += counts
        heapq.heappush(self._heap, (when, next(self._order), counts, happens))

    # ---- the driver --------------------------------------------------------------------------------------------------

    def arrive(self, number: int) -> None:
        self.queue.append(number)
        self.hand_out()

    def hand_out(self) -> None:
        """Sends the next input to whoever holds the fewest, unless the driver is busy or all are full."""
        if self.handing_out or not self.queue:
            return
        worker = next((self.workers[number] for places in self.free[:-1] for number in places), None)
        if worker is None:
            return
        number = self.queue.popleft()
        self.take(worker, 1)
        self.handing_out = True
        self.out.driver_s += self.cluster.driver_s
        life = worker.life
        self.at(self.now + self.cluster.driver_s, lambda: self.deliver(worker, life, number))

    def deliver(self, worker: _Worker, life: int, number: int) -> None:
        self.handing_out = False
        if worker.life == life:
            worker.held.append(number)
            self.work(worker)
        else:  # its node was lost meanwhile
            self.queue.appendleft(number)
        self.hand_out()

    def take(self, worker: _Worker, places: int) -> None:
        """Moves a worker among those that hold more, or fewer."""
        self.free[worker.reserved].pop(worker.number, None)
        worker.reserved += places
        self.free[worker.reserved][worker.number] = None

    # ---- a worker ----------------------------------------------------------------------------------------------------

    def work(self, worker: _Worker) -> None:
        if not worker.up or worker.began is not None or not worker.held:
            return
        number = worker.held[0]
        item, life = self.items[number], worker.life
        worker.began = self.now
        self.tries[number] += 1
        if not self.begun[number]:
            self.begun[number] = True
            self.out.delays.append(self.now - item.arrives)
        took = self.cluster.limit_s if item.fate == TIMEOUT else item.seconds
        self.at(self.now + took, lambda: self.finish(worker, life))

    def finish(self, worker: _Worker, life: int) -> None:
        if worker.life != life:
            return
        number = worker.held.popleft()
        took, worker.began = self.now - (worker.began or 0.0), None
        self.take(worker, -1)
        fate = self.items[number].fate
        if fate == DONE:
            self.out.useful_s += took
            self.out.ends[DONE] += 1
        else:
            self.out.lost_s[fate] += took + self.cluster.start_s
            self.fail(number, fate)
            self.restart(worker, self.cluster.start_s)
        self.work(worker)
        self.hand_out()

    def fail(self, number: int, fate: str) -> None:
        """Once more, or given up."""
        if fate == TIMEOUT or self.tries[number] >= self.cluster.tries:
            self.out.ends[fate] += 1
        else:
            self.queue.appendleft(number)

    def restart(self, worker: _Worker, seconds: float) -> None:
        worker.up, life = False, worker.life
        self.at(self.now + seconds, lambda: self.ready(worker, life))

    def ready(self, worker: _Worker, life: int) -> None:
        if worker.life == life:
            worker.up = True
            self.work(worker)

    # ---- nodes -------------------------------------------------------------------------------------------------------

    def plan_loss(self, node: int, after: float) -> None:
        self.at(self.now + after + self.chance.expovariate(1 / self.cluster.node_life_s), partial(self.lose, node), 0)

    def lose(self, node: int) -> None:
        for worker in (w for w in self.workers if w.node == node):
            if worker.began is not None:
                number = worker.held.popleft()
                self.out.lost_s["node"] += self.now - worker.began
                self.fail(number, CRASHED)  # nobody can tell whose fault it was
            self.queue.extendleft(reversed(worker.held))
            worker.held.clear()
            worker.began, worker.up, worker.life = None, False, worker.life + 1
            self.out.lost_s["node"] += self.cluster.node_back_s
            self.free[worker.reserved].pop(worker.number, None)
            worker.reserved = 0
        self.at(self.now + self.cluster.node_back_s, partial(self.come_back, node), 0)
        self.plan_loss(node, self.cluster.node_back_s)
        self.hand_out()

    def come_back(self, node: int) -> None:
        for worker in (w for w in self.workers if w.node == node):
            worker.up = True
            self.free[0][worker.number] = None
        self.hand_out()


def simulate(items: Sequence[Item], cluster: Cluster, seed: int = 0) -> Outcome:
    """Lets a cluster work through inputs.

    Args:
        items: Inputs; every one of them ends exactly once.
        cluster: Who works on them.
        seed: Of the losses of nodes.
    """
    return _Run(items, cluster, seed).run()


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies, by rank; 0 for none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0
