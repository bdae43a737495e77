"""Runs the fuzzer: makes damaged files, feeds them to workers, and keeps those that found something."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz_seeds import Seed
from fuzz_targets import BOUNDS, TARGETS, Case, Outcome, judged, run_case, start
from mutate import mutate

from dfpipe.workers import run_all


@dataclass(frozen=True)
class Finding:
    """A damaged file that a target did not take as it should."""

    case: Case
    outcome: Outcome
    data: bytes

    @property
    def name(self) -> str:
        """A file name by which it can be kept; its first part is the target."""
        return f"{self.case.target}-{self.case.seed}-{self.case.number}{self.case.path.suffix}"


@dataclass
class Tally:
    """What a run saw."""

    kinds: dict[str, Counter[str]] = field(default_factory=dict)  # target -> outcome -> count
    findings: list[Finding] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    @property
    def total(self) -> int:
        """Files that were tried."""
        return sum(counter.total() for counter in self.kinds.values())


def seeds_of(names: Sequence[str]) -> dict[str, list[Seed]]:
    """The sound files of some targets."""
    return {name: list(TARGETS[name].seeds()) for name in names}


def damaged(number: int, name: str, sound: Sequence[Seed], seed: int) -> tuple[Seed, bytes]:
    """Damaged file number so-and-so of a target: the same numbers, the same bytes."""
    rng = Random(f"{seed} {name} {number}")
    first = rng.choice(sound)
    return first, mutate(first.data, first.form, rng)


def write_case(folder: Path, number: int, name: str, seed: str, data: bytes) -> Case:
    """Puts a file where its target expects it, with what lies beside it."""
    target = TARGETS[name]
    home = folder / f"{number:08d}"
    path = home / target.name
    for other in (path, *(home / beside for beside in target.beside)):
        other.parent.mkdir(parents=True, exist_ok=True)
        other.touch()
    path.write_bytes(data)
    return Case(number, name, seed, path)


def fuzz(cases: Iterator[Case], folder: Path, workers: int = 0) -> Iterator[tuple[Case, Outcome, bytes]]:
    """Feeds cases to workers, and yields each with its outcome and its bytes; its files are removed."""
    for case, result in run_all(run_case, cases, setup=start, workers=workers, bounds=BOUNDS):
        yield case, judged(result), case.path.read_bytes()
        shutil.rmtree(folder / f"{case.number:08d}")


def tally(results: Iterator[tuple[Case, Outcome, bytes]]) -> Iterator[Tally]:
    """Counts outcomes; yields the same tally after each case."""
    seen = Tally()
    for case, outcome, data in results:
        seen.kinds.setdefault(case.target, Counter())[outcome.kind] += 1
        seen.slowest = max(seen.slowest, (outcome.seconds, f"{case.target} {case.seed} {case.number}"))
        if outcome.finding:
            seen.findings.append(Finding(case, outcome, data))
        yield seen
