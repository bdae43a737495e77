"""`dfpipe` as a process that is watched while it works through many inputs, and the table of what was seen."""

import json
import math
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import Run, temporaries

from dfpipe.types import State, VerdictKind

EVERY_S = 0.5  # between two looks at the memory
WARM = 0.2  # of the run, until libraries are loaded and caches are filled; its memory does not count as growth
GROWTH = 1.1  # last third against the first third of the rest, and ...
GROWTH_MB = 50.0  # ... at least so much more: below that it is the allocator's noise


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    what: str
    seen: str
    holds: bool = True


@dataclass(frozen=True)
class Watched:
    """What was seen of one run."""

    exit: int | str
    seconds: float
    memory_mb: list[float]  # the parent's own, at equal times
    resident_mb: float  # at most, with the pages of library files, which all processes share and the system may drop
    orphans: int
    litter: list[str]
    printed: str

    @property
    def peak_mb(self) -> float:
        """Most own memory of the parent."""
        return max(self.memory_mb, default=0.0)

    def thirds(self) -> tuple[float, float]:
        """Median memory in the first and in the last third of the run, MB, without its start."""
        rest = self.memory_mb[int(WARM * len(self.memory_mb)) :] or [0.0]
        third = max(1, len(rest) // 3)
        return statistics.median(rest[:third]), statistics.median(rest[-third:])


def watch(
    words: Sequence[str], folder: Path, seconds: float, meanwhile: Callable[[Run, float], object] | None = None
) -> Watched:
    """Runs `dfpipe` to its end, or for at most so many seconds.

    Args:
        words: Its arguments.
        folder: For what it prints and its temporary files.
        seconds: After which it is stopped; its exit code then counts as "still running".
        meanwhile: Called with the run and its age in s at every look.
    """
    began = time.monotonic()
    run = Run(tuple(words), folder)
    memory, resident = [], [0.0]
    while not run.ended and (age := time.monotonic() - began) < seconds:
        sizes = _sizes_mb(run.process.pid)
        memory.append(sizes.get("RssAnon", 0.0))
        resident.append(sizes.get("VmRSS", 0.0))
        if meanwhile is not None:
            meanwhile(run, age)
        time.sleep(EVERY_S)
    code = run.exit(0.1)
    took = time.monotonic() - began
    return Watched(code, took, [mb for mb in memory if mb], max(resident), run.orphans(), run.litter(), run.printed)


def _sizes_mb(pid: int) -> dict[str, float]:
    """What proc(5) says of the memory of a process; nothing if it has ended."""
    try:
        words = re.findall(r"^(\w+):\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return {}
    return {name: int(size) * 1.024e-3 for name, size in words}


def usual_checks(seen: Watched, out: Path, failed: int, most_mb: float = math.inf) -> list[Check]:
    """What must hold of every run.

    Args:
        seen: The run.
        out: Where it wrote.
        failed: Inputs that could not be judged, which decide the exit code.
        most_mb: Of the parent's own memory.
    """
    first, last = seen.thirds()
    flat = last <= max(GROWTH * first, first + GROWTH_MB)
    left = temporaries(out)
    return [
        Check("exit code", str(seen.exit), seen.exit == (3 if failed else 0)),
        Check("time", f"{seen.seconds:.0f} s"),
        Check("memory of the parent, first third", f"{first:.0f} MB"),
        Check("memory of the parent, last third", f"{last:.0f} MB", flat),
        Check("memory of the parent, most", f"{seen.peak_mb:.0f} MB", 0 < seen.peak_mb < most_mb),
        Check("the same with library files", f"{seen.resident_mb:.0f} MB"),
        Check("orphan processes", str(seen.orphans), seen.orphans == 0),
        Check("left in the temporary folder", ", ".join(seen.litter) or "nothing", not seen.litter),
        Check("unfinished files", ", ".join(left[:3]) or "none", not left),
        Check("tracebacks", str(seen.printed.count("Traceback")), "Traceback" not in seen.printed),
    ]


def verdict_checks(out: Path, count: int) -> tuple[list[Check], int]:
    """What must hold of the verdicts on so many inputs; and how many inputs failed."""
    path = out / "verdicts.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    states = Counter(str(line["state"]) for line in lines)
    errors = [line for line in lines if line["verdict"] == VerdictKind.ERROR]
    numbers = [
        line
        for line in lines
        if line["verdict"] in (VerdictKind.ERROR, VerdictKind.NO_FACE) and line["p_fake"] is not None
    ]
    reports = sum((out / line["report"]).is_file() for line in lines)
    told = state_checks(states, count)
    told += [
        Check("verdicts", in_short(Counter(str(line["verdict"]) for line in lines))),
        Check(
            "inputs with two verdicts",
            str(len(lines) - len({line["path"] for line in lines})),
            len(lines) == len({line["path"] for line in lines}),
        ),
        Check("numbers without evidence", str(len(numbers)), not numbers),
        Check(
            "without a reason", str(sum(not line["reason"] for line in lines)), all(line["reason"] for line in lines)
        ),
        Check("reports that are there", f"{reports} of {len(lines)}", reports == len(lines)),
        internal([str(line["reason"]) for line in errors]),
    ]
    return told, len(errors)


def state_checks(states: Counter[str], count: int) -> list[Check]:
    """The states of so many inputs, and their sum."""
    return [
        Check("states", in_short(states), set(states) <= set(State)),
        Check("sum of states", f"{states.total()} of {count} inputs", states.total() == count),
    ]


def internal(reasons: Sequence[str]) -> Check:
    """Whether an input met a bug of ours."""
    bugs = [reason for reason in reasons if "internal error" in reason]
    return Check("internal errors", f"{len(bugs)} {'; '.join(bugs[:3])}", not bugs)


def in_short(counts: Counter[str]) -> str:
    """Counts on one line."""
    return ", ".join(f"{what} {count}" for what, count in counts.most_common())


def show(title: str, checks: Sequence[Check]) -> bool:
    """Prints a table; returns whether everything holds."""
    print(f"\n{title}")
    for check in checks:
        print(f"  {'ok ' if check.holds else 'OFF'}  {check.what:<36} {check.seen}", flush=True)
    return all(check.holds for check in checks)
