"""Damages small files of every kind at random and feeds them to dfpipe's readers, in its own workers.

    python benchmarks/fuzz.py [--seconds 3600] [--keep DIR] [--seed 0] [--only clip,still] [--workers 0]

Each file is made from a sound one by the mutators of tests/faults/mutate.py; the same seed makes the same files in the same
order. A reader may give a result or an error that it documents; everything else is told, and the file is kept in DIR.
A file that found something belongs in tests/faults/found/, where a test judges it from then on. Exit 1 if anything is found.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

# The mutators and targets are those of the tests; workers import them by name, over the path that they inherit.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "faults"))

from fuzz_run import Tally, damaged, fuzz, seeds_of, tally, write_case
from fuzz_targets import TARGETS, Case

EVERY_S = 30.0  # between two lines of progress


def cases(folder: Path, names: Sequence[str], seed: int, until: float) -> Iterator[Case]:
    """Cases of all targets in turn until the time is up; readers of media come four times as often as lists."""
    sound = seeds_of(names)
    turns = [name for name in names for _ in range(4 if name in ("clip", "still") else 1)]
    for number in count():
        if time.monotonic() > until:
            return
        name = turns[number % len(turns)]
        first, data = damaged(number, name, sound[name], seed)
        yield write_case(folder, number, name, first.name, data)


def table(seen: Tally) -> str:
    """The outcomes of each target."""
    lines = []
    for name, kinds in sorted(seen.kinds.items()):
        told = ", ".join(f"{kind} {number}" for kind, number in kinds.most_common(8))
        lines.append(f"{name:<12} {kinds.total():7d}  {told}")
    return "\n".join(lines)


def main() -> None:
    """Runs until the time is up, tells findings as they come, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--keep", type=Path, help="Folder for the files that found something.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(TARGETS), help="Targets, with commas between them.")
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    seen, began, told, kept = Tally(), time.monotonic(), 0.0, 0
    with tempfile.TemporaryDirectory(prefix="dfpipe-fuzz-") as name:
        folder = Path(name)
        made = cases(folder, args.only.split(","), args.seed, began + args.seconds)
        for seen in tally(fuzz(made, folder, args.workers)):
            for finding in seen.findings[kept:]:
                print(f"\n{finding.name}: {finding.outcome.kind}\n{finding.outcome.finding}", flush=True)
                if args.keep:
                    args.keep.mkdir(parents=True, exist_ok=True)
                    (args.keep / finding.name).write_bytes(finding.data)
            kept = len(seen.findings)
            if time.monotonic() - began > told + EVERY_S:
                told = time.monotonic() - began
                print(f"{told:6.0f} s  {seen.total} files, {kept} findings", flush=True)
    rate = seen.total / (time.monotonic() - began)
    slowest, which = seen.slowest
    print(f"\n{table(seen)}\n\n{seen.total} files, {rate:.1f}/s, {kept} findings; slowest: {slowest:.1f} s, {which}")
    sys.exit(1 if kept else 0)


if __name__ == "__main__":
    main()
