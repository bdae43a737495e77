"""What the rows of the bench share: the row itself, how it is compared, and `dfpipe` as a process that is watched."""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

DFPIPE = (sys.executable, "-m", "dfpipe")
MARK = "DFPIPE_BENCH"  # in the environment of every process that a run starts, however it hides
WAIT_S = 120.0

Facts = dict[str, Any]
T = TypeVar("T")


class Skip(Exception):
    """The row cannot be tried here; says why."""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        name: Unique.
        fault: What is done to dfpipe, in words.
        expected: What must be seen: a value, or a set or range that holds it, or a pattern that is found in it.
        observe: Does it in an empty folder of its own, and tells what it saw.
        late: It only looks at what a run made that an earlier row began.
    """

    name: str
    fault: str
    expected: Mapping[str, Any]
    observe: Callable[[Path], Facts]
    late: bool = False


class Once:
    """What is made at the first look and shared after that, however many threads look.

    Args:
        root: An empty folder for what is made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gave when it was called for this name."""
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            found: T = self._made[name]
            return found


def differences(expected: Mapping[str, Any], observed: Mapping[str, Any]) -> list[str]:
    """What is not as expected, in words. Empty if all is."""
    return [
        f"{name}: {told(wanted)} expected, {told(observed.get(name, 'nothing'))} seen"
        for name, wanted in expected.items()
        if name not in observed or not _holds(wanted, observed[name])
    ]


def _holds(wanted: Any, seen: Any) -> bool:
    if isinstance(wanted, re.Pattern):
        return wanted.search(str(seen)) is not None
    if isinstance(wanted, (set, frozenset, range)):
        return seen in wanted
    return bool(wanted == seen)


def told(value: Any) -> str:
    """A value or what is expected of one, in a few words."""
    if isinstance(value, re.Pattern):
        return f"~{value.pattern}"
    if isinstance(value, (set, frozenset)):
        return " or ".join(sorted(map(str, value)))
    if isinstance(value, range):
        return f"{value.start} to {value.stop - 1}"
    return str(value)


def in_words(facts: Mapping[str, Any]) -> str:
    """Facts on one line."""
    return "; ".join(f"{name}: {told(value)}" for name, value in facts.items())


# ---- dfpipe as a process ---------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One `dfpipe` that runs, with a temporary folder of its own.

    Args:
        words: Its arguments.
        folder: For what it prints and its temporary files.
        command: What is run instead of `dfpipe`.
        cwd: Its current folder.
        env: Variables that differ; None = not there.
    """

    words: tuple[str, ...]
    folder: Path
    command: tuple[str, ...] = DFPIPE
    cwd: Path | None = None
    env: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        changes = {"OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary), MARK: self.mark, **self.env}
        env = {k: v for k, v in {**os.environ, **changes}.items() if v is not None}
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [*self.command, *self.words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self.cwd,
                env=env,
                start_new_session=True,
            )

    @property
    def temporary(self) -> Path:
        """Where its temporary files go."""
        return self.folder / "tmp"

    @property
    def _stdout(self) -> Path:
        return self.folder / "stdout"

    @property
    def _stderr(self) -> Path:
        return self.folder / "stderr"

    @property
    def printed(self) -> str:
        """What it wrote so far, on both streams."""
        return "".join(path.read_text(errors="surrogateescape") for path in (self._stdout, self._stderr))

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def until(self, happened: Callable[[], object], seconds: float = WAIT_S) -> bool:
        """Waits for something, or the end of the process. Returns whether it happened."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if happened():
                return True
            if self.ended:
                return bool(happened())
            time.sleep(0.02)
        return False

    def signal(self, sign: int) -> None:
        """Sends a signal to the process alone, as a service manager does."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(sign)

    def kill(self) -> None:
        """Kill -9 of the process alone: nothing that it started is told."""
        self.signal(signal.SIGKILL)
        self.process.wait(WAIT_S)

    def exit(self, seconds: float = WAIT_S) -> int | str:
        """Waits for its end. Returns the exit code, or "still running"."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            for pid in (self.process.pid, *self.left()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            return "still running"

    def left(self) -> list[int]:
        """Processes that it started and that still run."""
        return [pid for pid in marked(self.mark) if pid != self.process.pid]

    def orphans(self, seconds: float = 10) -> int:
        """How many processes it left behind, after a moment in which they may notice that it has gone."""
        end = time.monotonic() + seconds
        while (left := self.left()) and time.monotonic() < end:
            time.sleep(0.05)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(left)

    def litter(self) -> list[str]:
        """What it left in its temporary folder."""
        return sorted(path.name for path in self.temporary.iterdir())


def marked(mark: str) -> Iterator[int]:
    """Processes with a mark in their environment that are no zombies. Only Linux tells."""
    wanted = f"{MARK}={mark}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            dead = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not dead and wanted in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)
        except OSError:  # it ended meanwhile, or is somebody else's
            continue


def temporaries(folder: Path) -> list[str]:
    """Half-written files anywhere below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".tmp-*"))


def tree(folder: Path, *patterns: str) -> dict[str, bytes]:
    """The files of a folder by their names."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for pattern in patterns
        for path in folder.glob(pattern)
        if path.is_file()
    }


def skip_unless_linux() -> None:
    """The rows look at processes in /proc."""
    if sys.platform != "linux":
        raise Skip("looks at processes in /proc")
