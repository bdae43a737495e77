"""Children that hang, crash, swallow memory or raise: real ones, through functions that every Python has."""

import ctypes
import functools
import math
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfpipe.errors import ConfigError, MediaCrashed, MediaTimeout, TooLargeMedia
from dfpipe.workers import Bounds, run_all

NOTHING = functools.partial(int, 0)


def results(task: Any, inputs: list[Any], **rest: Any) -> dict[Any, Any]:
    return dict(run_all(task, inputs, setup=NOTHING, **rest))


@pytest.mark.parametrize("engine", ["serial", "local"])
def test_every_input_gets_its_result(engine: str) -> None:
    assert results(math.factorial, list(range(20)), engine=engine, workers=2) == {
        n: math.factorial(n) for n in range(20)
    }


@pytest.mark.parametrize("engine", ["serial", "local"])
def test_a_source_may_have_nothing_for_now(engine: str) -> None:
    """What came before is finished while the source waits: it asks for results before it gives the next input."""
    found: dict[int, int] = {}
    deadline = time.monotonic() + 60

    def source() -> Iterator[int | None]:
        yield None
        yield 3
        while 3 not in found and time.monotonic() < deadline:
            time.sleep(0.01)
            yield None
        yield 4

    for number, result in run_all(math.factorial, source(), setup=NOTHING, engine=engine, workers=2):
        found[number] = result
    assert found == {3: 6, 4: 24}
    assert time.monotonic() < deadline


def test_a_hanging_child_is_killed_and_the_others_go_on() -> None:
    found = results(time.sleep, [0.0, 60.0, 0.1], workers=2, bounds=Bounds(seconds=2))
    assert isinstance(found.pop(60.0), MediaTimeout)
    assert found == {0.0: None, 0.1: None}


def test_a_segmentation_fault_is_one_input_s_state() -> None:
    found = results(ctypes.string_at, [0, b"fine"], workers=1)
    assert isinstance(found[0], MediaCrashed)
    assert "SIGSEGV" in str(found[0])
    assert found[b"fine"] == b"fine"


def test_a_child_that_leaves_in_silence_is_a_crash() -> None:
    found = results(os._exit, [3], workers=1)
    assert isinstance(found[3], MediaCrashed)


def test_memory_is_bounded() -> None:
    found = results(bytearray, [8_000_000_000, 10], workers=1, bounds=Bounds(memory_gb=1))
    assert isinstance(found[8_000_000_000], TooLargeMedia)
    assert found[10] == bytearray(10)


def test_what_one_input_may_take_does_not_depend_on_those_before_it() -> None:
    """Address space that stays taken, as by an allocator, is not held against the next input."""
    sizes = [600_000_000 + i for i in range(4)]
    assert results(keep_address_space, sizes, workers=1, bounds=Bounds(memory_gb=1)) == {n: n for n in sizes}


def keep_address_space(size: int) -> int:
    """Takes address space for as long as the process lives."""
    kept.append(mmap.mmap(-1, size))
    return size


kept: list[mmap.mmap] = []


def test_a_bug_met_on_one_input_does_not_stop_the_others() -> None:
    found = results(math.sqrt, [-1, 4], workers=1)
    assert isinstance(found[-1], MediaCrashed)
    assert "ValueError" in str(found[-1])
    assert found[4] == 2


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who works")
def test_children_die_when_nobody_wants_their_results_any_more() -> None:
    runs = run_all(os.path.realpath, ["/proc/self"] * 4, setup=NOTHING, workers=2)
    _, child = next(runs)
    assert child != os.path.realpath("/proc/self")
    assert Path(child).exists()
    runs.close()  # type: ignore[attr-defined]
    assert not Path(child).exists()


def test_unknown_engine() -> None:
    with pytest.raises(ConfigError, match="local"):
        results(abs, [1], engine="cluster")


def test_a_script_that_is_not_guarded_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "judge all.py"
    script.write_text(
        "import math, functools\nfrom dfpipe.workers import run_all\n"
        "print(list(run_all(math.factorial, [1], setup=functools.partial(int, 0))))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode
    assert "below `if __name__" in done.stderr.splitlines()[-1]
