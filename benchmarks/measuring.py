"""What the benchmarks of crops and networks share: crops to work on, core-seconds, and lines of a table."""

import os
import platform
import resource
import statistics
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
from skimage.data import astronaut

from dfpipe.preprocess.crops import encode_jpeg, resize
from dfpipe.preprocess.manifest import Manifest

SIDE, QUALITY = 256, 95  # of crops, as extraction writes them
SCALE = 1.3  # of the crop around the face box, the default
FACE = (140, 0, 180)  # left, top and side in px of the portrait's face with its surroundings


def made_crops(folder: Path, count: int) -> Manifest:
    """Crops of one face, each from another place and at another size, every second one called fake; and their manifest."""
    rng = np.random.default_rng(0)
    portrait = np.asarray(astronaut(), np.uint8)
    left, top, side = FACE
    names = []
    for index in range(count):
        x, y, by = left + rng.integers(-8, 9), top + rng.integers(0, 9), side + rng.integers(-20, 21)
        names.append(f"{index}.jpg")
        (folder / names[-1]).write_bytes(encode_jpeg(resize(portrait[y : y + by, x : x + by], SIDE), QUALITY))
    box = {"x1": 0.0, "y1": 0.0, "x2": SIDE / SCALE, "y2": SIDE / SCALE, "crop_scale": SCALE, "landmarks": None}
    columns = {name: [value] * count for name, value in {**box, "split": "train"}.items()}
    return Manifest(folder, {**columns, "crop": names, "label": [i % 2 for i in range(count)]})


def core_seconds() -> float:
    """Of this process so far, in user and system mode, on all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(what: Mapping[str, Callable[[], object]], runs: int, crops: int) -> dict[str, list[float]]:
    """Core-milliseconds a crop of each, after one run to warm up, in turn so that what disturbs one disturbs all."""
    taken: dict[str, list[float]] = {name: [] for name in what}
    for run in range(runs + 1):
        for name, work in what.items():
            start = core_seconds()
            work()
            if run:
                taken[name].append(1000 * (core_seconds() - start) / crops)
    return taken


def middle(values: Sequence[float]) -> str:
    """The median, and in brackets the lowest and the highest."""
    return f"{statistics.median(values):7.2f}  ({min(values):.2f} to {max(values):.2f})"


def machine(*packages: str) -> str:
    """Where this is measured, and with what."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    threads = f"OpenCV {cv2.getNumThreads()} threads"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {threads}, {versions}"
