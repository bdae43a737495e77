"""The capacity plan: formulas against closed forms, and the simulated scheduler against its laws."""

import math
import random
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import capacity
from queueing import CRASHED, DONE, TIMEOUT, Cluster, Item, simulate

FREE = Cluster(1, driver_s=0.0, start_s=0.0, in_flight=1)  # one worker and nothing that costs


def mixed(count: int, seed: int) -> list[Item]:
    chance = random.Random(seed)
    fates = chance.choices((DONE, CRASHED, TIMEOUT), (0.9, 0.05, 0.05), k=count)
    return [Item(chance.expovariate(0.5), fate) for fate in fates]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_every_input_ends_once_whatever_is_lost(seed: int, in_flight: int) -> None:
    items = mixed(500, seed)
    cluster = Cluster(10, 3, in_flight, tries=10**6, node_life_s=60.0, node_back_s=20.0)
    expected = Counter(item.fate for item in items if item.fate != CRASHED)
    # Of a poisonous one nobody could tell without an end of tries; it is given as harmless here.
    harmless = [replace(item, fate=DONE) if item.fate == CRASHED else item for item in items]
    out = simulate(harmless, cluster, seed)
    assert out.lost_s["node"] > 0
    assert out.ends[TIMEOUT] == expected[TIMEOUT]
    assert out.ends[DONE] == 500 - expected[TIMEOUT]
    assert len(out.delays) == 500


@pytest.mark.parametrize("in_flight", [1, 2])
def test_with_equal_times_the_end_is_known(in_flight: int) -> None:
    for workers, count in ((1, 7), (4, 4), (5, 3), (4, 8), (4, 9), (5, 23)):
        out = simulate([Item(3.0)] * count, replace(FREE, workers=workers, in_flight=in_flight))
        assert out.makespan == pytest.approx(3.0 * math.ceil(count / workers))
        assert out.utilisation(workers) == pytest.approx(count * 3.0 / (workers * out.makespan))


def test_more_workers_never_take_longer() -> None:
    for seed in range(20):
        items = [item for item in mixed(60, seed) if item.fate == DONE]
        spans = [simulate(items, replace(FREE, workers=count)).makespan for count in range(1, 16)]
        assert spans == sorted(spans, reverse=True)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (4, 0.8), (16, 0.9)])
def test_waiting_is_that_of_erlang(servers: int, load: float) -> None:
    """M/M/c: means of 20 independent runs lie around the formula, within four of their standard errors."""
    means = []
    for seed in range(20):
        chance = random.Random(seed)
        now, items = 0.0, []
        for _ in range(4000):
            now += chance.expovariate(load * servers)
            items.append(Item(chance.expovariate(1.0), DONE, now))
        means.append(statistics.fmean(simulate(items, replace(FREE, workers=servers)).delays))
    error = statistics.stdev(means) / math.sqrt(len(means))
    assert statistics.fmean(means) == pytest.approx(capacity.wait_s(load * servers, 1.0, servers), abs=4 * error)
    assert error < 0.3 * statistics.fmean(means)  # else it would say nothing


def test_erlang_of_one_server_is_the_known_formula() -> None:
    assert capacity.wait_s(0.5, 1.0, 1) == pytest.approx(0.5 / (1 - 0.5))  # rho / (mu - lambda)
    assert capacity.wait_s(2.0, 1.0, 2) == math.inf


def test_poison_is_tried_twice_and_a_hang_once() -> None:
    cluster = replace(FREE, limit_s=30.0, start_s=4.0)
    out = simulate([Item(1.0, CRASHED), Item(1.0, TIMEOUT), Item(1.0)], cluster)
    assert out.ends == {CRASHED: 1, TIMEOUT: 1, DONE: 1}
    assert out.lost_s == {CRASHED: 2 * (1.0 + 4.0), TIMEOUT: 30.0 + 4.0}
    assert out.makespan == pytest.approx(1 + 4 + 1 + 4 + 30 + 4 + 1)


def test_the_driver_is_the_limit_where_it_is_slower_than_the_workers() -> None:
    cluster = Cluster(1000, driver_s=0.01)
    out = simulate([Item(1.0)] * 5000, cluster)
    assert out.makespan == pytest.approx(50.0 + 1.0)  # 5000 times 10 ms, then the last input
    assert capacity.driver_limit(1.01, 0.01) == pytest.approx(100)


def test_the_same_seed_gives_the_same_outcome() -> None:
    cluster = Cluster(8, 2, node_life_s=100.0)
    one, other = (simulate(mixed(300, 1), cluster, 5) for _ in range(2))
    assert one == other
    assert one != simulate(mixed(300, 1), cluster, 6)


def test_needs_and_money_of_a_load() -> None:
    load = capacity.Load(
        86_400,
        [capacity.Kind("clip", 0.5, 2.0, 0.1, 3.0, 1.0), capacity.Kind("still", 0.5, 0.0, 0.0, 1.0, 0.0)],
        2.0,
        0.5,
    )
    needs = capacity.needs(load)
    assert needs["inputs/s at the peak"] == pytest.approx(2)
    assert needs["cores"] == pytest.approx(2 * 1.0 / 0.5)
    assert needs["drivers"] == pytest.approx(2 * 0.05 / 0.5)
    assert needs["network in, Gbit/s"] == pytest.approx(2 * 2 * 8 / 1000)
    assert needs["kept in all, TB"] == pytest.approx(86_400 * 0.5 * 30 / 1e6)
    cost = capacity.money(load, capacity.Prices(core_hour=0.1, gb_month=1.0))
    assert cost["cores"] == pytest.approx(24 / 0.5 * 0.1)  # one core-second a second, all day
    assert cost["storage"] == pytest.approx(86_400 * 0.5 / 1000)
    assert cost["GPUs"] == cost["requests"] == 0


def test_a_tail_has_the_share_that_was_asked_for() -> None:
    for count in (3, 5000):
        times = capacity.with_tail([1.0] * count, 0.001, 300.0)
        assert times.count(300.0) / len(times) == pytest.approx(0.001, rel=0.01)
    assert capacity.with_tail([1.0, 2.0], 0.0, 300.0) == [1.0, 2.0]


def test_fates_are_drawn_in_their_shares() -> None:
    ends = Counter(item.fate for item in capacity.inputs([1.0], 20_000, {CRASHED: 0.1, TIMEOUT: 0.2}, 0))
    assert ends[CRASHED] / 20_000 == pytest.approx(0.1, abs=0.01)  # 4.7 standard errors
    assert ends[TIMEOUT] / 20_000 == pytest.approx(0.2, abs=0.01)


def test_both_commands_run(tmp_path: Path) -> None:
    (tmp_path / "times.txt").write_text("1.5\n2.0\n2.5\n")
    program = [sys.executable, capacity.__file__]
    flags = [
        "--times",
        str(tmp_path / "times.txt"),
        "--inputs",
        "500",
        "--poison",
        "0.02",
        "--hang",
        "0.02",
        "--load",
        "0.8",
    ]
    run = subprocess.run([*program, "simulate", *flags], capture_output=True, text=True, check=True)
    assert "500 inputs: " in run.stdout
    plan = ["plan", "--uploads", "1e6", "--kind", "clip=0.5,2,0.003,3,0.4", "--kind", "still=0.5,0.04,0.003,0.3,0.1"]
    run = subprocess.run([*program, *plan, "--core-hour", "0.05"], capture_output=True, text=True, check=True)
    assert "cores" in run.stdout
    assert "in all" in run.stdout
