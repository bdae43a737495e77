"""A cluster of two nodes (two raylets, each with processes of its own) that this process joins by its address."""

import functools
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from dfpipe.rayengine import Cluster
from dfpipe.workers import run_all

pytestmark = pytest.mark.slow


def test_a_node_is_lost_and_another_comes(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'dfpipe[ray]'")
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = nodes.add_node(num_cpus=1)
        done, actors = Counter[int](), Counter[int]()
        inputs = [(tmp_path / "begun", number) for number in range(120)]
        engine = Cluster(nodes.address)
        for item, actor in run_all(write_down, inputs, setup=functools.partial(int, 0), engine=engine, workers=2):
            done[item[1]] += 1
            actors[actor] += 1
            if second is not None and len(actors) == 2 and min(actors.values()) >= 10:
                nodes.remove_node(second, allow_graceful=False)
                nodes.add_node(num_cpus=1, wait=False)
                second = None
        assert second is None
        assert done == Counter(range(120))
        assert len(actors) == 3  # on the node that stayed, the lost one, and the new one
        begun = Counter((tmp_path / "begun").read_text().split())
        assert len(begun) == 120
        assert sum(begun.values()) <= 122  # what was at the lost node
    finally:
        nodes.shutdown()


def write_down(item: tuple[Path, int]) -> int:
    """Says that it has begun, takes its time, and returns its actor's process id."""
    with item[0].open("a") as file:
        file.write(f"{item[1]}\n")
    time.sleep(0.1)
    return os.getppid()
