"""Children that hang, crash, swallow memory or raise: real ones, through functions that every Python has."""

import ctypes
import functools
import itertools
import math
import mmap
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest

from dfpipe.child import allow
from dfpipe.config import LimitsConfig
from dfpipe.errors import ConfigError, MediaCrashed, MediaTimeout, ResourceError, TooLargeMedia, UsageError
from dfpipe.sandbox import seal
from dfpipe.workers import isolated, run_all

NOTHING = functools.partial(int, 0)


def results(task: Any, inputs: list[Any], **rest: Any) -> dict[Any, Any]:
    return dict(run_all(task, inputs, setup=NOTHING, **rest))


def test_every_input_gets_its_result(engine: str) -> None:
    assert results(math.factorial, list(range(20)), engine=engine, workers=2) == {
        n: math.factorial(n) for n in range(20)
    }


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


def test_the_parent_prepares_itself_meanwhile(engine: str) -> None:
    """Once, before the first result is waited for; not where there is no input."""
    calls: list[int] = []

    def prepare() -> None:
        deadline = time.monotonic() + 60
        while engine == "local" and not active_children() and time.monotonic() < deadline:
            time.sleep(0.01)
        calls.append(len(active_children()))

    assert results(math.factorial, [], engine=engine, meanwhile=prepare) == {}
    assert calls == []
    assert results(math.factorial, [None, 3, 4], engine=engine, workers=1, meanwhile=prepare) == {3: 6, 4: 24}
    assert calls == [1 if engine == "local" else 0]


def test_what_fails_meanwhile_ends_the_run(killing: str) -> None:
    with pytest.raises(UsageError, match="no such device"):
        results(time.sleep, [60.0], engine=killing, workers=1, meanwhile=refuse)
    assert not active_children()


def refuse() -> None:
    raise UsageError("no such device")


def test_a_hanging_child_is_killed_and_the_others_go_on(killing: str) -> None:
    found = results(time.sleep, [0.0, 60.0, 0.1], engine=killing, workers=2, bounds=LimitsConfig(seconds=2))
    assert isinstance(found.pop(60.0), MediaTimeout)
    assert found == {0.0: None, 0.1: None}


def test_a_segmentation_fault_is_one_input_s_state(killing: str) -> None:
    found = results(ctypes.string_at, [0, b"fine"], engine=killing, workers=1)
    assert isinstance(found[0], MediaCrashed)
    assert "SIGSEGV" in str(found[0])
    assert found[b"fine"] == b"fine"


def test_a_child_that_leaves_in_silence_is_a_crash(killing: str) -> None:
    found = results(os._exit, [3], engine=killing, workers=1)
    assert isinstance(found[3], MediaCrashed)


def test_memory_is_bounded(killing: str) -> None:
    found = results(bytearray, [8_000_000_000, 10], engine=killing, workers=1, bounds=LimitsConfig(memory_gb=1))
    assert isinstance(found[8_000_000_000], TooLargeMedia)
    assert found[10] == bytearray(10)


def test_what_one_input_may_take_does_not_depend_on_those_before_it() -> None:
    """Address space that stays taken, as by an allocator, is not held against the next input."""
    sizes = [600_000_000 + i for i in range(4)]
    assert results(keep_address_space, sizes, workers=1, bounds=LimitsConfig(memory_gb=1)) == {n: n for n in sizes}


def keep_address_space(size: int) -> int:
    """Takes address space for as long as the process lives."""
    kept.append(mmap.mmap(-1, size))
    return size


kept: list[mmap.mmap] = []


def test_a_bug_met_on_one_input_does_not_stop_the_others(killing: str) -> None:
    found = results(math.sqrt, [-1, 4], engine=killing, workers=1)
    assert isinstance(found[-1], MediaCrashed)
    assert "ValueError" in str(found[-1])
    assert found[4] == 2


def test_a_child_that_holds_the_interpreter_s_lock_is_killed(killing: str) -> None:
    begun = time.monotonic()
    found = results(hang_with_the_lock, [60, 0], engine=killing, workers=1, bounds=LimitsConfig(seconds=1))
    assert isinstance(found[60], MediaTimeout)
    assert found[0] == 0
    assert time.monotonic() - begun < 30


def hang_with_the_lock(seconds: int) -> int:
    """Sleeps in C without letting go of the interpreter's lock, as decoders have been seen to do."""
    return int(ctypes.PyDLL(None).sleep(seconds))


def test_a_child_that_leaves_with_code_0_is_missed_at_once() -> None:
    begun = time.monotonic()
    found = results(os._exit, [0], workers=1, bounds=LimitsConfig(seconds=60))
    assert isinstance(found[0], MediaCrashed)
    assert time.monotonic() - begun < 30


def test_a_task_may_ask_for_more_time_and_gets_so_much_at_most() -> None:
    bounds = LimitsConfig(seconds=1, seconds_at_most=4)
    found = results(slow, [(60.0, 2.0), (60.0, 30.0), (0.5, 2.0)], workers=3, bounds=bounds)
    assert found[60.0, 2.0] is None
    assert "longer than 4 s" in str(found[60.0, 30.0])
    assert isinstance(found[0.5, 2.0], MediaTimeout)


def slow(times: tuple[float, float]) -> None:
    """Asks for the one and takes the other, in s."""
    asked, taken = times
    allow(asked)
    time.sleep(taken)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this system does not count it")
def test_time_without_a_core_does_not_count(tmp_path: Path) -> None:
    """On a machine that is busy with other things, a limit would otherwise turn good files into errors."""
    before = os.sched_getaffinity(0)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        core = {min(before)}
        for pid in [os.getpid(), *(other.pid for other in busy)]:
            os.sched_setaffinity(pid, core)
        found = results(count_up, [2.5], workers=1, bounds=LimitsConfig(seconds=3))
        begun = time.monotonic()
        late = results(hang_with_the_lock, [60], workers=1, bounds=LimitsConfig(seconds=1))
    finally:
        os.sched_setaffinity(0, before)
        for other in busy:
            other.kill()
            other.wait()
    assert found[2.5] > 3.2  # s, more than its limit
    assert isinstance(late[60], MediaTimeout)
    assert time.monotonic() - begun < 30


def count_up(seconds: float) -> float:
    """Computes for so much processor time, and says how long that took."""
    begun, used = time.monotonic(), time.process_time()
    while time.process_time() < used + seconds:
        pass
    return time.monotonic() - begun


def test_wall_limits_do_not_follow_the_clock_on_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.count(0, 100_000)
    monkeypatch.setattr(time, "time", lambda: 1.8e9 + next(jumps))
    assert results(time.sleep, [0.5, 0.6], workers=2) == {0.5: None, 0.6: None}


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc who lives")
def test_what_a_child_has_started_is_killed_with_it(tmp_path: Path) -> None:
    found = results(leave_a_grandchild, [tmp_path / "pid"], workers=1, bounds=LimitsConfig(seconds=3))
    assert isinstance(found[tmp_path / "pid"], MediaCrashed | MediaTimeout)
    pid, deadline = int((tmp_path / "pid").read_text()), time.monotonic() + 20
    while lives(pid) and time.monotonic() < deadline:  # the kernel takes a moment
        time.sleep(0.05)
    assert not lives(pid)


def lives(pid: int) -> bool:
    """Whether a process is there and more than a dead one that nobody has asked about."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def leave_a_grandchild(told: Path) -> None:
    """Forks, and dies while the new process lives on and keeps the pipe to the parent open."""
    if (pid := os.fork()) == 0:
        time.sleep(600)
    told.write_text(str(pid))
    os._exit(1)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64") or sys.platform != "linux", reason="cannot be sealed"
)
def test_a_child_has_no_network_and_starts_no_programs() -> None:
    sealed, refused = isolated(try_the_door, 0)
    if not sealed:
        pytest.skip("this container forbids seccomp")
    assert refused == ["AF_INET", "AF_INET6", "AF_NETLINK", "execve"]


def try_the_door(_: int) -> tuple[bool, list[str]]:
    """What is refused. Sockets within the machine stay: libraries use them."""
    tries: dict[str, Any] = {
        **{f"AF_{name}": functools.partial(socket.socket, socket.AddressFamily[f"AF_{name}"]) for name in FAMILIES},
        "execve": functools.partial(subprocess.check_output, [sys.executable, "--version"]),
    }
    return seal(), [name for name, attempt in tries.items() if is_refused(attempt)]


FAMILIES = ("UNIX", "INET", "INET6", "NETLINK")


def is_refused(attempt: Any) -> bool:
    """Whether the system forbids it."""
    try:
        attempt()
    except PermissionError:
        return True
    return False


def test_a_child_writes_no_file_without_end(tmp_path: Path) -> None:
    with pytest.raises(MediaCrashed, match="too large"):
        isolated(write_much, tmp_path / "much", LimitsConfig(file_gb=0.001))
    assert (tmp_path / "much").stat().st_size <= 1_000_000


def write_much(path: Path) -> None:
    """Writes 2 MB."""
    path.write_bytes(bytes(2_000_000))


def test_processor_time_is_bounded_by_the_kernel_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the parent is stopped: then nobody else would end it."""
    with pytest.raises(MediaTimeout, match="processor time"):
        isolated(burn, 0.0)


def burn(_: float) -> None:
    """Lowers its own limit, because the usual one is far away, and computes for ever."""
    resource.setrlimit(resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY))
    while True:
        pass


def test_a_child_s_own_folder_goes_with_it(tmp_path: Path) -> None:
    folders = results(leave_files, ["stays", "dies"], workers=1)
    assert isinstance(folders["dies"], MediaCrashed)
    assert not Path(folders["stays"]).exists()
    assert not Path(folders["stays"]).parent.exists()


def leave_files(what: str) -> str:
    """Leaves a file among the temporary ones."""
    handle, _ = tempfile.mkstemp()
    os.write(handle, b"x")
    if what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return tempfile.gettempdir()


def test_what_it_says_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert isolated(say_much, 10_000_000) == 10_000_000
    assert capfd.readouterr() == ("", "")


def say_much(count: int) -> int:
    """Floods standard error."""
    return os.write(2, bytes(count))


def test_an_old_child_works_on_until_another_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfpipe.pool.MAX_INPUTS_PER_PROCESS", 3)
    done: Counter[int] = Counter()
    deadline = time.monotonic() + 60

    def source() -> Iterator[float]:
        while len(done) < 4 and time.monotonic() < deadline:
            yield 0.01

    for _, process in run_all(nap, source(), setup=functools.partial(time.sleep, 0.5), workers=2):
        done[process] += 1
        assert len(active_children()) <= 3  # one more than there are workers
    first, second, *_ = done
    assert min(done[first], done[second]) > 3  # both were of one age, and neither left before it could be spared
    assert len(done) >= 4


def nap(seconds: float) -> int:
    """Works a little, and says which process did."""
    time.sleep(seconds)
    return os.getpid()


def test_no_more_processes_than_inputs() -> None:
    assert len(set(results(own_pid, [1, 2], workers=8).values())) <= 2


def own_pid(_: int) -> int:
    """Who works."""
    return os.getpid()


def test_a_result_that_cannot_be_sent_is_a_bug_of_that_input(killing: str) -> None:
    found = results(unsendable, [0, 1], engine=killing, workers=1)
    assert isinstance(found[0], MediaCrashed)
    assert "please report" in str(found[0])
    assert found[1] == 1


def unsendable(number: int) -> Any:
    """A generator cannot be pickled."""
    return number or (n for n in range(3))


def test_a_full_disk_in_a_child_ends_the_run(killing: str) -> None:
    """It is no fault of the input, which must not get a state for it."""
    with pytest.raises(ResourceError, match="no space"):
        results(disk_full, [1, 2], engine=killing, workers=1)


def disk_full(_: int) -> None:
    """As a worker that unpacks an archive."""
    raise ResourceError("no space left")


def test_a_child_that_dies_while_it_starts_is_replaced(killing: str, tmp_path: Path) -> None:
    once = functools.partial(die_once, tmp_path / "died")
    assert list(run_all(abs, [-1], setup=once, engine=killing, workers=1)) == [(-1, 1)]
    assert (tmp_path / "died").exists()


def test_children_that_always_die_while_they_start_end_the_run(killing: str) -> None:
    with pytest.raises(ResourceError, match=r"died while it started \(SIGKILL\)"):
        list(run_all(abs, [-1], setup=functools.partial(os.kill, 0, signal.SIGKILL), engine=killing, workers=1))


def die_once(marker: Path) -> None:
    """As if the system had run out of memory for a moment."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_set_up_that_fails_ends_the_run(killing: str) -> None:
    with pytest.raises(ZeroDivisionError):
        list(run_all(abs, [1], setup=functools.partial(divmod, 1, 0), engine=killing, workers=1))


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


def test_what_a_child_isolates_it_does_itself() -> None:
    inner, outer = isolated(isolated_in_a_child, 0)
    assert inner == outer != os.getpid()


def isolated_in_a_child(item: int) -> tuple[int, int]:
    return isolated(process_of, item), os.getpid()


def process_of(item: int) -> int:
    return os.getpid()
