"""Damaged files in a bounded number, the same ones each time; and those that ever found something.

The long run is benchmarks/fuzz.py. What it finds belongs in found/, under the name of its target.
"""

import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import av
import pytest

sys.path.insert(
    0, str(Path(__file__).parent)
)  # the helpers beside this file, also for the workers, which inherit the path

import fuzz_seeds
from fuzz_run import Tally, damaged, fuzz, seeds_of, tally, write_case
from fuzz_seeds import Seed
from fuzz_targets import TARGETS, Target, judged, observe
from mutate import ANATOMIES, MAX_BYTES, SPECIAL, mutate

from dfpipe.errors import DataError, MediaCrashed, MediaTimeout

FOUND = sorted((Path(__file__).parent / "found").iterdir())
CASES = {name: 120 if name in ("clip", "still") else 25 for name in TARGETS}


def check(seen: Tally) -> None:
    if seen.findings:
        pytest.fail("\n\n".join(f"{found.name}: {found.outcome.finding}" for found in seen.findings), pytrace=False)


@pytest.fixture(scope="module")
def sound() -> dict[str, list[Seed]]:
    return seeds_of(list(TARGETS))


def test_damaged_files_end_in_a_documented_way(sound: dict[str, list[Seed]], tmp_path: Path) -> None:
    cases = []
    for name, number in ((name, number) for name, count in CASES.items() for number in range(count)):
        seed, data = damaged(number, name, sound[name], 0)
        cases.append(write_case(tmp_path, len(cases), name, seed.name, data))
    *_, seen = tally(fuzz(iter(cases), tmp_path))
    check(seen)
    assert {name: kinds.total() for name, kinds in seen.kinds.items()} == CASES
    mild = Counter(name for name, kinds in seen.kinds.items() if any(kind.startswith("ok") for kind in kinds))
    harsh = Counter(name for name, kinds in seen.kinds.items() if any(not kind.startswith("ok") for kind in kinds))
    assert set(mild) >= set(TARGETS) - {"config"}  # damage that leaves nothing to read would try nothing
    assert set(harsh) >= {
        "clip",
        "still",
        "zip_stills",
        "manifest",
        "inputs",
        "faces",
        "config",
        "model",
        "csv",
        "parquet",
    }
    assert {"ok: ok", "ok: partial", "CorruptMedia", "UnsupportedMedia"} <= set(seen.kinds["clip"])


def test_what_was_found_once_is_taken_well(tmp_path: Path) -> None:
    cases = [
        write_case(tmp_path, number, file.name.partition("-")[0], file.stem, file.read_bytes())
        for number, file in enumerate(FOUND)
    ]
    assert len(cases) > 10
    *_, seen = tally(fuzz(iter(cases), tmp_path))
    assert seen.total == len(cases)
    check(seen)


# ---- the fuzzer itself ----------------------------------------------------------------------------------------------


def test_every_sound_file_is_one(sound: dict[str, list[Seed]], tmp_path: Path) -> None:
    pairs = [(name, seed) for name, seeds in sound.items() for seed in seeds]
    cases = [write_case(tmp_path, i, name, seed.name, seed.data) for i, (name, seed) in enumerate(pairs)]
    *_, seen = tally(fuzz(iter(cases), tmp_path))
    check(seen)
    assert all(kind.startswith("ok") for kinds in seen.kinds.values() for kind in kinds), seen.kinds
    assert set(seen.kinds["clip"]) == {"ok: ok"}  # the face is found, so that damage reaches detector and crops


def test_the_same_numbers_give_the_same_bytes(sound: dict[str, list[Seed]]) -> None:
    for name, seeds in sound.items():
        for seed in seeds[:3]:
            made = [mutate(seed.data, seed.form, Random(number)) for number in range(30)]
            assert made == [mutate(seed.data, seed.form, Random(number)) for number in range(30)]
            assert len(set(made)) > 20, name
            assert all(len(data) <= MAX_BYTES for data in made)


@pytest.mark.parametrize("form", [*ANATOMIES, *SPECIAL])
def test_no_damage_is_too_much_for_the_mutators(form: str, sound: dict[str, list[Seed]]) -> None:
    whole = next((seed.data for seeds in sound.values() for seed in seeds if seed.form == form), b"")
    assert whole
    for data in (b"", b"\0", b"\xff" * 64, whole[: len(whole) // 2]):
        for number in range(40):
            mutate(data, form, Random(number))


@pytest.mark.parametrize("form", ANATOMIES)
def test_the_form_of_sound_files_is_understood(form: str, sound: dict[str, list[Seed]]) -> None:
    for seed in (seed for seeds in sound.values() for seed in seeds if seed.form == form):
        anatomy = ANATOMIES[form](seed.data)
        assert len(anatomy.fields) >= 5, seed.name
        assert all(where.offset + where.size <= len(seed.data) for where in anatomy.fields), seed.name
        assert all(0 <= piece.start < piece.stop <= len(seed.data) for piece in anatomy.pieces), seed.name


def test_checksums_of_damaged_png_are_right(sound: dict[str, list[Seed]]) -> None:
    png = next(seed.data for seed in sound["still"] if seed.form == "png")
    right = 0
    for number in range(50):
        data = mutate(png, "png", Random(number))
        length = int.from_bytes(data[8:12], "big")
        body = data[12 : 16 + length]
        right += data[16 + length : 20 + length] == zlib.crc32(body).to_bytes(4, "big")
    assert right > 40  # the others have lost their first chunk


def raises(error: BaseException) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "part"),
    [
        (raises(ValueError("x")), "ValueError: x"),
        (raises(SystemExit(0)), "SystemExit"),
        (raises(DataError("x" * 100)), ""),
        (lambda path: bytearray(2 << 30), "more than 1 GB"),
    ],
)
def test_the_judge_tells_what_must_not_be(tmp_path: Path, read: Callable[[Path], object], part: str) -> None:
    path = tmp_path / "a"
    path.touch()
    outcome = observe(Target("a", lambda: iter(()), read, (DataError,)), path)
    assert part in outcome.finding
    assert bool(outcome.finding) == bool(part)


@pytest.mark.parametrize("error", [MediaCrashed("it died"), MediaTimeout("too long")])
def test_a_worker_that_does_not_answer_is_a_finding(error: Exception) -> None:
    assert str(error) in judged(error).finding


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system has no such classes")
def test_making_seeds_leaves_this_process_its_place() -> None:
    """An encoder among those used makes its caller a real-time process where it may."""
    before = os.sched_getscheduler(0), os.sched_getaffinity(0)
    assert any("av1" in seed.name for seed in fuzz_seeds.clips()) or "libsvtav1" not in av.codecs_available
    assert (os.sched_getscheduler(0), os.sched_getaffinity(0)) == before
