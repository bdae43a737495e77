"""What the fuzzer feeds damaged files to: the readers of dfpipe, as they are, in its own killable workers.

A target may give a result or raise one of the errors that it documents, in one line. Anything else is a finding: another
exception, a crash, a hang, more memory than a small file can be worth.
"""

import contextlib
import logging
import math
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fuzz_seeds as seeds
from fuzz_seeds import Seed

from dfpipe.config import FacesConfig, LimitsConfig, load_config
from dfpipe.errors import ConfigError, DataError, DfpipeError, LeakError, MediaError, ModelFileError, SourceError
from dfpipe.infer.inputs import Upload, collect
from dfpipe.infer.looking import LookJob, look_task
from dfpipe.preprocess.facefinder import start_finder
from dfpipe.preprocess.manifest import read_faces, read_inputs, read_manifest
from dfpipe.preprocess.sources import scan
from dfpipe.train.modelfile import load_model
from dfpipe.types import State

SECONDS = 20.0  # for a file of some kB that is worked on in 0.1 s: more is a hang
MEMORY_GB = 4.0  # for media, the default of dfpipe
PARENT_MEMORY_GB = 1.0  # for what is read in the parent process, which nothing else bounds
MAX_MESSAGE = 2000  # characters: an error is one line that a person reads
BOUNDS = LimitsConfig(seconds=SECONDS, seconds_at_most=SECONDS, memory_gb=MEMORY_GB)


@dataclass(frozen=True)
class Target:
    """A reader, and what it may say to a damaged file."""

    name: str  # of the damaged file, below the folder of its case
    seeds: Callable[[], Iterator[Seed]]
    read: Callable[[Path], object]  # gets the damaged file; its result is what the case is counted as
    errors: tuple[type[DfpipeError], ...]
    beside: tuple[str, ...] = ()  # empty files around it, which lists name
    memory_gb: float = PARENT_MEMORY_GB


@dataclass(frozen=True)
class Case:
    """One damaged file on its way to a worker."""

    number: int
    target: str
    seed: str
    path: Path


@dataclass(frozen=True)
class Outcome:
    """What a target made of a file."""

    kind: str  # "ok: ..." or the name of a documented error
    seconds: float
    finding: str = ""  # what must not be


# ---- the readers ----------------------------------------------------------------------------------------------------


def look(path: Path) -> str:
    """A clip or still, as `dfpipe infer` and `extract` look at it."""
    return _looked(Upload(path), path.parent)


def _looked(upload: Upload, scratch: Path) -> str:
    found = look_task(LookJob(upload)).found
    _demand(found.state in (State.OK, State.PARTIAL, State.NO_FACE), f"a result in state {found.state}")
    _demand(0 < found.frames_decoded <= found.frames_wanted, f"{found.frames_decoded} of {found.frames_wanted} frames")
    _demand(bool(found.reason) or found.state == State.OK, "no reason")
    for crop in found.crops:
        box = (crop.box.x1, crop.box.y1, crop.box.x2, crop.box.y2, crop.box.confidence, crop.time_s)
        _demand(all(map(math.isfinite, box)), f"a box that is no number: {box}")
        _demand(crop.image.shape == (256, 256, 3), f"a crop of {crop.image.shape}")
    return str(found.state)


def look_inside(path: Path) -> str:
    """A zip archive: its list for `dfpipe infer`, then each entry."""
    states = set()
    for upload in collect([path]).uploads[:8]:
        try:
            states.add(_looked(upload, path.parent))
        except MediaError as error:
            states.add(str(error.state))
    return "+".join(sorted(states))


def sources(kind: str, up: int, path: Path) -> str:
    """A list of a publisher or user, or an archive: `dfpipe sources` on it, or on the folder so many levels above it."""
    found = scan(path.parents[up - 1] if up else path, kind)
    names = {(item.dataset, item.name) for source in found for item in source.items}
    _demand(len(names) == sum(len(source.items) for source in found), "two items of one name")
    return found[0].layout


def crops(path: Path) -> str:
    """The manifest of a folder of crops."""
    return f"{len(read_manifest(path.parent))} rows"


def inputs(path: Path) -> str:
    """The table of inputs of such a folder."""
    return f"{len(read_inputs(path.parent))} rows"


def faces(path: Path) -> str:
    """The settings of such a folder."""
    return type(read_faces(path.parent)).__name__


def config(path: Path) -> str:
    """A file named with --config."""
    return type(load_config(str(path))).__name__


def model(path: Path) -> str:
    """A model file."""
    return load_model(path).card.architecture


def listed(path: Path) -> str:
    """A list of paths for `dfpipe infer`."""
    with contextlib.chdir(path.parent):
        return f"{len(collect([f'@{path.name}']).uploads)} uploads"


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)


_ABC = ("a.mp4", "b.mp4", "c.mp4", "sub/c.mp4")
_STILLS = tuple(f"frames/{label}/{i}.png" for label in ("Set_Real", "Set_Fake") for i in range(3))
_FF = tuple(f"manipulated_sequences/Deepfakes/c23/videos/{a}_{b}.mp4" for a, b in (("000", "001"), ("001", "000")))
_DATA = (SourceError, DataError, LeakError)
TARGETS: dict[str, Target] = {
    "clip": Target("a.mp4", seeds.clips, look, (MediaError,), memory_gb=MEMORY_GB),
    "still": Target("a.jpg", seeds.stills, look, (MediaError,), memory_gb=MEMORY_GB),
    "zip": Target("a.zip", seeds.archives, look_inside, (SourceError, MediaError), memory_gb=MEMORY_GB),
    "zip_stills": Target("real/a.zip", seeds.archives, partial(sources, "images", 0), (SourceError,)),
    "manifest": Target("manifest.parquet", seeds.manifests, crops, _DATA),
    "inputs": Target("inputs.parquet", seeds.inputs_tables, inputs, _DATA),
    "faces": Target("config.yaml", seeds.settings, faces, (DataError,)),
    "config": Target("my.yaml", seeds.settings, config, (ConfigError,)),
    "model": Target("m.safetensors", seeds.models, model, (ModelFileError,)),
    "csv": Target("list.csv", seeds.csv_lists, partial(sources, "videos", 0), (SourceError,), _ABC),
    "parquet": Target("list.parquet", seeds.parquet_lists, partial(sources, "videos", 0), (SourceError,), _ABC),
    "dfdc": Target(
        "p/metadata.json", seeds.dfdc_lists, partial(sources, "videos", 2), (SourceError,), ("p/a.mp4", "p/b.mp4")
    ),
    "preview": Target(
        "dataset.json", seeds.preview_lists, partial(sources, "videos", 1), (SourceError,), ("method_A/1/a.mp4",)
    ),
    "labels": Target("labels.csv", seeds.label_lists, partial(sources, "videos", 1), (SourceError,), _ABC),
    "pairs": Target("splits/train.json", seeds.pair_lists, partial(sources, "videos", 2), (SourceError,), _FF),
    "stills": Target(
        "metadata.csv", seeds.still_tables, partial(sources, "images", 1), (SourceError,), ("real/a.png", "fake/b.png")
    ),
    "celeb": Target(
        "List_of_testing_videos.txt",
        seeds.celeb_lists,
        partial(sources, "videos", 1),
        (SourceError,),
        ("Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4"),
    ),
    "bench": Target("Set.json", seeds.bench_lists, partial(sources, "images", 0), (SourceError,), _STILLS),
    "paths": Target("list.txt", seeds.path_lists, listed, (SourceError,), _ABC),
}


# ---- in the worker --------------------------------------------------------------------------------------------------


def start() -> None:
    """Prepares a worker."""
    logging.disable(logging.CRITICAL)
    start_finder(FacesConfig(frames=4), BOUNDS)


def run_case(case: Case) -> Outcome:
    """Feeds one file to its target and says what came of it. Never raises what the target raised."""
    return observe(TARGETS[case.target], case.path)


def observe(target: Target, path: Path) -> Outcome:
    """Runs a target on a file and judges what it says."""
    began = time.perf_counter()
    said = finding = ""
    try:
        with _little_memory(target.memory_gb):
            kind = f"ok: {target.read(path)}"
    except target.errors as error:
        kind, said = type(error).__name__, str(error)
    except MemoryError:
        kind, finding = "memory", f"more than {target.memory_gb:g} GB for {path.stat().st_size} bytes\n{_where()}"
    except BaseException as error:
        kind, finding = type(error).__name__, _where()
    if "\n" in said or len(said) > MAX_MESSAGE:
        finding = f"a message of {len(said)} characters and {said.count(chr(10)) + 1} lines: {said[:300]!r}"
    return Outcome(kind, time.perf_counter() - began, finding)


def _where() -> str:
    """The end of the traceback, without what the deepest recursion repeats."""
    return "".join(traceback.format_exc(limit=-8))[-3000:]


class _little_memory:  # noqa: N801  (used like a function)
    """Allows so much address space on top of what is taken, as `dfpipe.workers` does for the whole input."""

    def __init__(self, memory_gb: float) -> None:
        self._more = int(memory_gb * 1e9)

    def __enter__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_AS)
        if sys.platform == "linux":
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (min(used + self._more, *_finite(self._before)), self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_AS, self._before)


def _finite(limits: tuple[int, int]) -> list[int]:
    return [limit for limit in limits if limit != resource.RLIM_INFINITY] or [1 << 62]


# ---- in the parent --------------------------------------------------------------------------------------------------


def judged(result: Any) -> Outcome:
    """What came back of a worker, as an outcome: its death or its being stopped is a finding."""
    if isinstance(result, Outcome):
        return result
    return Outcome(type(result).__name__, SECONDS, f"the worker did not answer: {result}")
