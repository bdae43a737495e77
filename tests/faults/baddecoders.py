"""Decoders and detectors that fail in every way that they can. What a file is called decides how.

The processes of the pool import this module, so it must lie on `sys.path`, which they take over from their parent.
"""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dfpipe.config import FacesConfig, LimitsConfig
from dfpipe.preprocess import faces, readers
from dfpipe.preprocess.facefinder import FoundFaces, start_finder, this_finder
from dfpipe.types import FaceBox, Frame, Image

NAP_S = 3600
GRANDCHILD = f"import time; time.sleep({NAP_S})"


def segfault() -> None:
    """Reads address 0."""
    ctypes.string_at(0)


def hang_with_the_lock() -> None:
    """Sleeps in C and keeps the interpreter's lock, so that no Python code of this process runs, not even a handler."""
    ctypes.PyDLL(None).sleep(NAP_S)


def hang_deaf() -> None:
    """Ignores SIGTERM and sleeps."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(NAP_S)


def allocate() -> None:
    """Asks for 8 GB."""
    bytearray(8_000_000_000)


def allocate_in_c() -> None:
    """Asks for 8 GB as C++ code does, which ends the process when it gets none."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    if not libc.malloc(ctypes.c_size_t(8_000_000_000)):
        os.abort()


def leave() -> None:
    """Ends the process as if all were well."""
    os._exit(0)


def flood() -> None:
    """Writes 100 MB of complaints."""
    for _ in range(100):
        os.write(2, b"complaint " * 100_000)


def fork_and_hang() -> None:
    """Starts a process that outlives it, and hangs."""
    if os.fork() == 0:
        time.sleep(NAP_S)
        os._exit(0)
    time.sleep(NAP_S)


def fork_and_die() -> None:
    """Starts a process that outlives it, and dies."""
    if os.fork() == 0:
        time.sleep(NAP_S)
        os._exit(0)
    segfault()


def start_a_program() -> None:
    """Starts a program, as a shell that an exploit opens."""
    subprocess.run([sys.executable, "-c", GRANDCHILD], check=True)


def connect() -> None:
    """Opens a connection, as an exploit that sends what it found."""
    import socket

    socket.create_connection(("127.0.0.1", 9), timeout=1).close()


def fill_the_disk() -> None:
    """Writes a file without end."""
    with open(Path(os.environ["TMPDIR"], "endless"), "wb") as file:
        while True:
            file.write(bytes(10_000_000))


def interrupt() -> None:
    """Raises what is no error of a decoder."""
    raise KeyboardInterrupt


def nothing() -> None:
    """Works."""


FAULTS: dict[str, Callable[[], None]] = {
    f.__name__: f
    for f in (
        *(segfault, hang_with_the_lock, hang_deaf, allocate, allocate_in_c, leave, flood, fork_and_hang, fork_and_die),
        *(start_a_program, connect, fill_the_disk, interrupt, nothing),
    )
}


class BadReader(readers.PyAVReader):
    """Opens clips as PyAV does, and fails at their first frame as their name asks."""

    def __init__(self, path: Path, headers: readers.Headers, limits: LimitsConfig) -> None:
        super().__init__(path, headers, limits)
        self._fault = FAULTS.get(path.stem, nothing)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """See `VideoReader.frames`."""
        self._fault()
        return super().frames(indices)


class BadDetector:
    """Answers with boxes that cannot be."""

    def detect(self, images: Sequence[Image]) -> list[list[FaceBox]]:
        """Finds one sound face, and others."""
        nan, side = float("nan"), float(images[0].shape[0])
        boxes = [
            FaceBox(0.2 * side, 0.2 * side, 0.8 * side, 0.8 * side, 0.99),
            FaceBox(nan, 0, side, side, 0.99),
            FaceBox(-5e9, -5e9, -4e9, -4e9, 0.99),
            FaceBox(float("inf"), 0, float("inf"), side, 0.99),
            FaceBox(0.5 * side, 0.5 * side, 0.5 * side, 0.5 * side, 0.99),
            FaceBox(0.9 * side, 0.9 * side, 0.1 * side, 0.1 * side, 0.99),
            FaceBox(2 * side, 2 * side, 3 * side, 3 * side, 0.99),
            FaceBox(0.2 * side, 0.2 * side, 0.8 * side, 0.8 * side, nan),
        ]
        return [list(boxes) for _ in images]


class NoDetector:
    """Finds nothing, at no cost."""

    def detect(self, images: Sequence[Image]) -> list[list[FaceBox]]:
        """Finds nothing."""
        return [[] for _ in images]


DETECTORS: dict[str, Callable[[FacesConfig, str], Any]] = {
    "bad": lambda config, device: BadDetector(),
    "none": lambda config, device: NoDetector(),
}


def start(detector: str, config: FacesConfig, limits: LimitsConfig) -> None:
    """The set-up of a worker."""
    readers.READERS["bad"] = BadReader
    faces.DETECTORS.update(DETECTORS)
    start_finder(replace(config, reader="bad", detector=detector), limits)


def look(path: Path) -> FoundFaces:
    """The task: as the workers of extraction and inference do it, without the libraries that these load besides."""
    return this_finder().find(path)


def setup(detector: str, config: FacesConfig, limits: LimitsConfig) -> partial[None]:
    """`start` for `dfpipe.workers.run_all`."""
    return partial(start, detector, config, limits)
