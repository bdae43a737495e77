"""How many cores, GPUs, bytes and how much money does a load take, and where does it break first?

    python benchmarks/capacity.py plan --uploads 1e6 --kind "clip=0.6,2.4,0.6,3.1,0.07" --kind "still=0.4,0.045,0.028,2,0.05"
    python benchmarks/capacity.py simulate --workers 64 --times data/faces/inputs.parquet --inputs 20000 --long 0.001 \
        --poison 0.001 --hang 0.001 --node-life 24

`plan` prints the formulas of docs/scaling.md for a mix of inputs; prices are the reader's own, none is assumed. A kind is
NAME=SHARE,CORE_SECONDS,DRIVER_SECONDS,MB_IN,MB_KEPT[,GPU_SECONDS]. `simulate` lets benchmarks/queueing.py work through
inputs with times that were measured: the column `seconds` of an inputs.parquet, or a file with a number in each line.
"""

import argparse
import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pyarrow.parquet as pq
from queueing import CRASHED, DONE, TIMEOUT, Cluster, Item, Outcome, quantile, simulate

DAY_S = 86_400
LONG_S = 300.0  # of the longest inputs: half of preprocess.limits.seconds_at_most, within which all must end


# ---- formulas --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """One kind of input, and what one of it takes."""

    name: str
    share: float  # of all inputs
    core_s: float  # core-seconds, of driver and worker
    driver_s: float  # of them in the driver, the one process that hands inputs out and writes
    mb_in: float  # to be read
    mb_kept: float  # of crops, reports, and rows
    gpu_s: float = 0.0


@dataclass(frozen=True)
class Load:
    """How much comes, and how well the machines are used. What is measured is said in docs/scaling.md."""

    per_day: float
    kinds: Sequence[Kind]
    peak: float = 2.0  # busiest hour over the mean
    utilisation: float = 0.7  # of the cores at the peak: the rest keeps waiting short
    worker_gb: float = 1.0  # memory of a worker
    driver_row_kb: float = 1.0  # memory of the driver, for each input of a run
    requests: float = 5.0  # to the store, for each input
    days_kept: float = 30.0


@dataclass(frozen=True)
class Prices:
    """In any currency; what is 0 costs nothing here."""

    core_hour: float = 0.0
    gpu_hour: float = 0.0
    gb_month: float = 0.0
    million_requests: float = 0.0
    gb_out: float = 0.0  # read out of the store


def mean(load: Load, what: str) -> float:
    """Of one input of the mix."""
    return sum(kind.share * getattr(kind, what) for kind in load.kinds) / sum(kind.share for kind in load.kinds)


def needs(load: Load) -> dict[str, float]:
    """What a load takes, by name with its unit: at the peak for machines and rates, in all for bytes."""
    rate = load.per_day / DAY_S * load.peak
    cores = rate * mean(load, "core_s") / load.utilisation
    return {
        "inputs/s at the peak": rate,
        "cores": cores,
        "GPUs": rate * mean(load, "gpu_s") / load.utilisation,
        "memory of the workers, GB": cores * load.worker_gb,
        "network in, Gbit/s": rate * mean(load, "mb_in") * 8 / 1000,
        "read a day, TB": load.per_day * mean(load, "mb_in") / 1e6,
        "kept a day, TB": load.per_day * mean(load, "mb_kept") / 1e6,
        "kept in all, TB": load.per_day * load.days_kept * mean(load, "mb_kept") / 1e6,
        "requests/s to the store": rate * load.requests,
        "drivers": rate * mean(load, "driver_s") / load.utilisation,
        "memory of the drivers for a day's inputs, GB": load.per_day * load.driver_row_kb / 1e6,
    }


def money(load: Load, prices: Prices) -> dict[str, float]:
    """What a day costs, in the currency of the prices. Machines are paid for the mean load, as where they come and go."""
    hours = load.per_day / 3600 / load.utilisation
    return {
        "cores": hours * mean(load, "core_s") * prices.core_hour,
        "GPUs": hours * mean(load, "gpu_s") * prices.gpu_hour,
        "storage": load.per_day * load.days_kept * mean(load, "mb_kept") / 1000 * prices.gb_month / 30,
        "requests": load.per_day * load.requests / 1e6 * prices.million_requests,
        "reading": load.per_day * mean(load, "mb_in") / 1000 * prices.gb_out,
    }


def wait_s(rate: float, service_s: float, servers: int) -> float:
    """Mean time before service begins, in s, with random arrivals and exponential service: Erlang's C formula.

    Args:
        rate: Arrivals in a second.
        service_s: Mean time of service.
        servers: Of them.

    Returns:
        Infinity where more comes than can be served.
    """
    load = rate * service_s
    if load >= servers:
        return math.inf
    blocked = 1.0  # Erlang's B by its recursion, which does not overflow
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    waits = blocked / (1 - load / servers * (1 - blocked))
    return waits * service_s / (servers - load)


def driver_limit(core_s: float, driver_s: float) -> float:
    """Workers that one driver keeps busy with inputs of so many core-seconds, of which it spends some itself."""
    return (core_s - driver_s) / driver_s


# ---- simulation ------------------------------------------------------------------------------------------------------


def measured_times(path: Path) -> list[float]:
    """Seconds of the inputs that were worked on: of an inputs.parquet, or a line each."""
    if path.suffix == ".parquet":
        values = pq.read_table(path, columns=["seconds"]).column("seconds").to_pylist()
    else:
        values = [float(line) for line in path.read_text().split()]
    return [value for value in values if value]


def inputs(times: Sequence[float], count: int, shares: Mapping[str, float], seed: int, rate: float = 0.0) -> list[Item]:
    """Inputs with times drawn from measured ones.

    Args:
        times: Measured, in s.
        count: Of the inputs.
        shares: Of those that crash and of those that hang, by `CRASHED` and `TIMEOUT`.
        seed: Of the draws.
        rate: Arrivals in a second, at random; 0 = all are there at the start.
    """
    chance = random.Random(seed)
    fates = {DONE: 1 - sum(shares.values()), **shares}
    made, now = [], 0.0
    for fate in chance.choices(list(fates), list(fates.values()), k=count):
        now += chance.expovariate(rate) if rate else 0.0
        made.append(Item(chance.choice(times), fate, now))
    return made


def with_tail(times: Sequence[float], share: float, seconds: float) -> list[float]:
    """Measured times, and among them so large a share of long ones."""
    count = round(share * len(times) / (1 - share))
    if share and not count:  # few were measured: each of them as often as it takes for one long one
        times, count = list(times) * math.ceil((1 - share) / (share * len(times))), 1
    return [*times, *[seconds] * count]


def ideal_s(items: Sequence[Item], workers: int) -> float:
    """The least time for what can be done: all of it shared evenly, but no less than its longest."""
    work = [item.seconds for item in items if item.fate == DONE]
    last = max((item.arrives + item.seconds for item in items if item.fate == DONE), default=0.0)
    return max(sum(work) / workers, last)


def told(items: Sequence[Item], cluster: Cluster, out: Outcome) -> list[str]:
    """What came of a simulation, in lines."""
    least = ideal_s(items, cluster.workers)
    lost = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in sorted(out.lost_s.items())) or "nothing"
    waits = ", ".join(f"{100 * share:g} % {quantile(out.delays, share):.2f}" for share in (0.5, 0.9, 0.99, 0.999))
    return [
        f"{len(items)} inputs: " + ", ".join(f"{count} {end}" for end, count in sorted(out.ends.items())),
        f"ends after {out.makespan:.1f} s, at least {least:.1f} s: {out.makespan / least:.3f} of the ideal",
        f"utilisation {out.utilisation(cluster.workers):.3f}; the driver was busy {out.driver_s / out.makespan:.3f}",
        f"seconds of waiting: {waits}",
        f"worker-seconds lost: {lost}",
    ]


# ---- command line ----------------------------------------------------------------------------------------------------


def kind(text: str) -> Kind:
    """Reads NAME=SHARE,CORE_SECONDS,DRIVER_SECONDS,MB_IN,MB_KEPT[,GPU_SECONDS]."""
    name, _, values = text.rpartition("=")
    return Kind(name, *map(float, values.split(",")))


def _plan(args: argparse.Namespace) -> None:
    names = ("peak", "utilisation", "worker_gb", "driver_row_kb", "requests", "days_kept")
    load = Load(args.uploads, args.kind, **{name: getattr(args, name) for name in names})
    for name, value in needs(load).items():
        print(f"{name:>46} {value:14,.3g}")
    print(
        f"{'workers that one driver keeps busy':>46} {driver_limit(mean(load, 'core_s'), mean(load, 'driver_s')):14,.0f}"
    )
    prices = Prices(args.core_hour, args.gpu_hour, args.gb_month, args.million_requests, args.gb_out)
    costs = money(load, prices)
    for name, value in costs.items():
        if value:
            print(f"{'a day, ' + name:>46} {value:14,.2f}")
    if any(costs.values()):
        print(f"{'a day, in all':>46} {sum(costs.values()):14,.2f}")


def _simulate(args: argparse.Namespace) -> None:
    times = with_tail(measured_times(args.times), args.long, args.long_s)
    shares = {CRASHED: args.poison, TIMEOUT: args.hang}
    rate = args.load * args.workers / (sum(times) / len(times)) if args.load else 0.0
    cluster = Cluster(args.workers, args.per_node, args.in_flight, args.driver_s, args.limit_s, args.start_s)
    if args.node_life:
        cluster = replace(cluster, node_life_s=3600 * args.node_life)
    items = inputs(times, args.inputs, shares, args.seed, rate)
    print("\n".join(told(items, cluster, simulate(items, cluster, args.seed))))


def main() -> None:
    """Prints a plan or a simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_subparsers(required=True)
    plan = which.add_parser("plan")
    plan.set_defaults(does=_plan)
    plan.add_argument("--uploads", type=float, required=True, help="In a day.")
    plan.add_argument("--kind", type=kind, action="append", required=True, help="See above; may be repeated.")
    for name, value in vars(Load(0, [])).items():
        if name not in ("per_day", "kinds"):
            plan.add_argument(f"--{name.replace('_', '-')}", type=float, default=value)
    for name in vars(Prices()):
        plan.add_argument(f"--{name.replace('_', '-')}", type=float, default=0.0)
    run = which.add_parser("simulate")
    run.set_defaults(does=_simulate)
    run.add_argument("--times", type=Path, required=True, help="inputs.parquet, or a file of numbers.")
    run.add_argument("--inputs", type=int, default=10_000)
    run.add_argument("--workers", type=int, default=64)
    run.add_argument("--per-node", type=int, default=16, help="Workers of a machine.")
    run.add_argument("--in-flight", type=int, default=2)
    run.add_argument("--driver-s", type=float, default=Cluster.driver_s)
    run.add_argument("--limit-s", type=float, default=Cluster.limit_s)
    run.add_argument("--start-s", type=float, default=Cluster.start_s)
    run.add_argument("--long", type=float, default=0.0, help="Share of inputs that take --long-s.")
    run.add_argument("--long-s", type=float, default=LONG_S)
    run.add_argument("--poison", type=float, default=0.0, help="Share that crash.")
    run.add_argument("--hang", type=float, default=0.0, help="Share that reach the wall limit.")
    run.add_argument("--node-life", type=float, default=0.0, help="Mean hours until a node is lost; 0 = never.")
    run.add_argument(
        "--load", type=float, default=0.0, help="Arrivals, as a share of what the workers can do; 0 = all now."
    )
    run.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.does(args)


if __name__ == "__main__":
    main()
