"""Fuzzing that is guided by coverage, of the readers that are Python: lists, tables, settings, model file, archives.

    pip install atheris
    python benchmarks/fuzz_coverage.py TARGET [--seconds 600] [--keep DIR]

Atheris (libFuzzer for Python) keeps the damaged files that reach new lines of dfpipe or of zipfile, and damages them
further. Targets, sound files, mutators and what counts as a finding are those of benchmarks/fuzz.py; but one process reads
all files here, and no worker that can be killed: a crash or hang ends the run and leaves its file in DIR. Of archives and
model files it is what dfpipe reads in a child of its own. Clips and stills are left to benchmarks/fuzz.py: their decoders
are C and tell nothing of their coverage. Exit 1 if anything is found.
"""

import argparse
import logging
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from random import Random

import atheris

# The mutators and targets are those of the tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "faults"))

WATCHED = ["dfpipe.preprocess", "dfpipe.config", "dfpipe.infer.inputs", "dfpipe.train.tensorfile", "zipfile"]

with atheris.instrument_imports(include=WATCHED, enable_loader_override=False):
    import fuzz_targets

    from dfpipe.config import LimitsConfig
    from dfpipe.errors import MediaError
    from dfpipe.preprocess.listings import list_task
    from dfpipe.train.tensorfile import check_header
from mutate import mutate  # noqa: E402  (dfpipe must be imported first where it is watched)


def listing(path: Path) -> object:
    """What a zip archive holds."""
    return list_task(path, limits=LimitsConfig())


def header(path: Path) -> object:
    """The header of a model file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return check_header((data[8 : 8 + length], max(0, len(data) - 8 - length)))


TARGETS = {
    **{name: target for name, target in fuzz_targets.TARGETS.items() if name not in ("clip", "still", "zip_stills")},
    "zip": replace(fuzz_targets.TARGETS["zip"], read=listing, errors=(MediaError,)),
    "model": replace(fuzz_targets.TARGETS["model"], read=header),
}


class Fuzzer:
    """Feeds files to one target and keeps those that found something new."""

    def __init__(self, name: str, folder: Path, keep: Path) -> None:
        self._name, self._keep, self._target = name, keep, TARGETS[name]
        self._path = folder / "case" / self._target.name
        for other in (self._path, *(folder / "case" / beside for beside in self._target.beside)):
            other.parent.mkdir(parents=True, exist_ok=True)
            other.touch()
        self.corpus = folder / "corpus"
        self.corpus.mkdir()
        self._form = ""
        for seed in self._target.seeds():
            self._form = seed.form
            (self.corpus / seed.name).write_bytes(seed.data)
        self.found: set[str] = set()

    def try_one(self, data: bytes) -> None:
        """Called by libFuzzer with each file."""
        self._path.write_bytes(data)
        finding = fuzz_targets.observe(self._target, self._path).finding
        last = finding.strip().rpartition("\n")[2][:60]
        if finding and last not in self.found:
            self.found.add(last)
            file = self._keep / f"{self._name}-coverage-{len(self.found)}{self._path.suffix}"
            file.write_bytes(data)
            print(f"\n{file.name}: {finding}", flush=True)

    def damage(self, data: bytes, most: int, seed: int) -> bytes:
        """Called by libFuzzer for the next file: ours every other time, else its own mutation."""
        if seed % 2:
            return mutate(data, self._form, Random(seed), most)
        changed: bytes = atheris.Mutate(data, most)
        return changed


def main() -> None:
    """Runs until the time is up; libFuzzer prints what it reaches (cov: lines, corp: files kept)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    args = parser.parse_args()
    args.keep.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="dfpipe-fuzz-") as name:
        fuzzer = Fuzzer(args.target, Path(name), args.keep)
        words = [
            f"-max_total_time={args.seconds}",
            "-timeout=20",
            "-rss_limit_mb=8000",
            f"-artifact_prefix={args.keep}/",
        ]
        atheris.Setup([sys.argv[0], *words, str(fuzzer.corpus)], fuzzer.try_one, custom_mutator=fuzzer.damage)
        ended = os.fork()  # libFuzzer ends its process
        if ended == 0:
            atheris.Fuzz()
        os.waitpid(ended, 0)
    sys.exit(1 if any(args.keep.glob(f"{args.target}-coverage-*")) else 0)


if __name__ == "__main__":
    main()
