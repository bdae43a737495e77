"""What a worker does with one input: find its faces and cut them. All that a worker loads is imported here."""

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dfpipe.files import sha256_file
from dfpipe.infer.inputs import Upload
from dfpipe.preprocess.facefinder import FoundFaces, this_finder
from dfpipe.types import FrameScore, Origin


@dataclass(frozen=True, slots=True)
class LookJob:
    """One input on its way to a worker."""

    upload: Upload
    looked: Path | None = None  # see `Detector.examine`

    @property
    def path(self) -> Path:
        """Where the worker finds it."""
        return self.upload.path

    @property
    def origin(self) -> Origin | None:
        """Where it is fetched from."""
        return self.upload.origin


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What a worker sends back of one input."""

    sha256: str
    size: int  # bytes
    found: FoundFaces
    seconds: float
    scores: tuple[FrameScore, ...] | None = None  # of `found.crops`, where an actor of a cluster has given them


def look_task(job: LookJob) -> Looked:
    """Finds and cuts the faces of one input, in a worker.

    Raises:
        MediaError: The input's state and reason.
    """
    start = time.perf_counter()
    finder = this_finder()
    finder.on_frames = partial(_count, job.looked) if job.looked is not None else None
    with job.upload.as_file(Path(tempfile.gettempdir()), finder.limits) as path:
        found = finder.find(path)
        return Looked(sha256_file(path), path.stat().st_size, found, time.perf_counter() - start)


def _count(file: Path, frames: int) -> None:
    with file.open("ab") as counted:
        counted.write(b"." * frames)
