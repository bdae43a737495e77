"""Do a thousand damaged clips, judged in one run of `dfpipe infer`, each end in one state, and is nothing left behind?

    python benchmarks/mutated_clips.py [FOLDER] [--clips 1000] [--seed 0] [--workers 2] [--seconds 3600] [--keep DIR]

The clips are damaged copies of those in FOLDER (at most 4 MB each), else of small ones made here in every common container
and codec; by the mutators of tests/faults/mutate.py, so that the same seed makes the same clips. Prints a table; exit 1 if a
line of it is off. Memory of the parent is looked at twice a second: first against last third of the run.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

# The mutators are those of the tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "faults"))

import fuzz_seeds
from fuzz_seeds import Seed
from fuzz_watch import Check, show, usual_checks, verdict_checks, watch
from mutate import form_of, mutate

from dfpipe.preprocess.containers import VIDEO_SUFFIXES

MAX_SEED_BYTES = 4_000_000


def seeds_in(folder: Path) -> Iterator[Seed]:
    """The clips of a folder and of those below it."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file() and 0 < path.stat().st_size <= MAX_SEED_BYTES:
            data = path.read_bytes()
            yield Seed(path.name, form_of(data), data)


def make(folder: Path, seeds: list[Seed], count: int, seed: int) -> None:
    """Writes damaged clips."""
    folder.mkdir()
    for number in range(count):
        rng = Random(f"{seed} {number}")
        sound = rng.choice(seeds)
        data = mutate(sound.data, sound.form, rng, MAX_SEED_BYTES)
        (folder / f"{number:05d}.mp4").write_bytes(data or b"\0")


def main() -> None:
    """Makes, runs, and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3600, help="The run is stopped after so long.")
    parser.add_argument("--keep", type=Path, help="A folder that does not exist, for clips and verdicts.")
    args = parser.parse_args()
    seeds = list(seeds_in(args.folder) if args.folder else fuzz_seeds.clips())
    if not seeds:
        parser.error(f"no clips of at most {MAX_SEED_BYTES / 1e6:g} MB in {args.folder}")
    with tempfile.TemporaryDirectory() as name:
        clips, out = Path(name) / "clips", Path(name) / "verdicts"
        make(clips, seeds, args.clips, args.seed)
        words = ("infer", str(clips), "--out", str(out), "--workers", str(args.workers), "-q")
        seen = watch(words, Path(name) / "run", args.seconds)
        checks, failed = verdict_checks(out, args.clips)
        checks += [*usual_checks(seen, out, failed), Check("time per clip", f"{seen.seconds / args.clips:.2f} s")]
        fine = show(f"{args.clips} damaged copies of {len(seeds)} clips, {args.workers} workers", checks)
        if not fine:
            print(seen.printed[-3000:])
        if args.keep:
            shutil.copytree(name, args.keep)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
