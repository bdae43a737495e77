"""What does an extraction cost, against decoding alone and against facenet-pytorch's MTCNN on the same frames?

    python benchmarks/extraction.py FOLDER [--runs 3] [--repeat 4] [--no-facenet]

FOLDER holds DFDC-style clips. All figures are core-seconds per clip (user and system time, of all processes), measured in
this run: compare their ratios, not seconds of different days.

- decoding alone: PyAV decodes every frame on one thread, converts none, keeps none.
- extraction: `dfpipe extract` with one worker, crops and manifest written. "per further clip" is what the folder costs more
  when every clip lies in it `--repeat` times more often; "whole command" counts the start too, for the folder as it is.
- facenet-pytorch: the same 32 frames, decoded by PyAV as we do, then `MTCNN(keep_all=True).detect`; at half size as the
  winner of the DFDC did. Crops are not even cut. "As it comes": in batches of 8, with as many threads as torch takes by
  itself; a batch in which a frame shows no face raises, and is gone through one by one. "At its best": one frame after
  the other on one thread, which costs it the least.
- parts: of the extraction, in one process and one thread.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import torch

from dfpipe.config import Config, FacesConfig
from dfpipe.files import sha256_file
from dfpipe.preprocess.crops import crop_face, encode_jpeg
from dfpipe.preprocess.faces import find_in_frames, load_detector
from dfpipe.preprocess.readers import BATCH, open_video
from dfpipe.preprocess.sampling import pick
from dfpipe.types import Image


def core_seconds(what: Callable[[], Any]) -> tuple[float, Any]:
    """Time of this process and of those that it started and that have ended, and the result."""
    before = _used()
    result = what()
    return _used() - before, result


def _used() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def decode_all(clip: Path) -> None:
    """Decoding alone."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for _ in container.decode(stream):
            pass


def read(clip: Path, reader: str = "pyav") -> list[Image]:
    """The frames that an extraction looks at."""
    faces = FacesConfig()
    with open_video(clip, reader) as video:
        return [frame.image for frame in video.frames(pick(video.timeline, faces))]


def extract(folder: Path) -> None:
    """The command, from the shell."""
    with tempfile.TemporaryDirectory() as out:
        words = ["extract", "--videos", str(folder), "--out", out, "--workers", "1", "-q"]
        subprocess.run([sys.executable, "-m", "dfpipe", *words], check=True, stdout=subprocess.DEVNULL)


def copies(clips: Sequence[Path], times: int, into: Path) -> Path:
    """A folder with each clip so many times."""
    folder = into / f"times{times}" / "real"
    folder.mkdir(parents=True)
    for i in range(times):
        for clip in clips:
            (folder / f"{i}_{clip.name}").symlink_to(clip.absolute())
    return folder.parent


def facenet(images: Sequence[Image], size: float, best: bool) -> None:
    """Lets the reference find the faces."""
    import facenet_pytorch

    reference = facenet_pytorch.MTCNN(keep_all=True)
    height, width = images[0].shape[:2]
    if size != 1:
        images = [cv2.resize(image, (int(width * size), int(height * size))) for image in images]
    torch.set_num_threads(1 if best else os.cpu_count() or 1)
    for i in range(0, len(images), BATCH):
        batch = images[i : i + BATCH]
        try:
            for part in [[image] for image in batch] if best else [batch]:
                reference.detect(part)
        except (ValueError, RuntimeError, IndexError):
            for image in batch:
                reference.detect(image)
    torch.set_num_threads(1)


def parts(clip: Path) -> dict[str, float]:
    """Core-seconds of each part of one clip."""
    faces, settings = FacesConfig(), Config().preprocess
    detector = load_detector(faces)
    found: dict[str, float] = {}
    found["hash"], _ = core_seconds(lambda: sha256_file(clip))
    found["decode and convert, decord"], _ = core_seconds(lambda: read(clip, "decord"))
    found["decode and convert, PyAV"], images = core_seconds(lambda: read(clip))
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    find_in_frames(detector, batches[0], faces)  # warms up
    found["detect"], boxes = core_seconds(
        lambda: [b for batch in batches for b in find_in_frames(detector, batch, faces)]
    )
    pairs = [(image, box) for image, some in zip(images, boxes, strict=True) for box in some]
    found["cut"], crops = core_seconds(lambda: [crop_face(i, b, faces.crop_scale, faces.crop_size) for i, b in pairs])
    found["encode"], _ = core_seconds(lambda: [encode_jpeg(crop, settings.jpeg_quality) for crop in crops])
    return found


def shown(name: str, values: Sequence[float], unit: float | None = None) -> str:
    """A line: median, spread, and the ratio to decoding alone."""
    middle = statistics.median(values)
    ratio = f"{middle / unit:7.2f} x decoding" if unit else ""
    return f"{name:<32} {middle:7.2f}  ({min(values):.2f} to {max(values):.2f}) {ratio}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--no-facenet", action="store_true")
    words = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    clips = sorted(words.folder.rglob("*.mp4"))
    measured: dict[str, list[float]] = {
        "decoding alone": [],
        "extraction, per further clip": [],
        "extraction, whole": [],
    }
    with tempfile.TemporaryDirectory() as name:
        once, more = copies(clips, 1, Path(name)), copies(clips, 1 + words.repeat, Path(name))
        for _ in range(words.runs):
            decoding = [core_seconds(lambda c=clip: decode_all(c))[0] for clip in clips]  # type: ignore[misc]
            measured["decoding alone"].append(statistics.mean(decoding))
            few, many = core_seconds(lambda: extract(once))[0], core_seconds(lambda: extract(more))[0]
            measured["extraction, per further clip"].append((many - few) / (words.repeat * len(clips)))
            measured["extraction, whole"].append(few / len(clips))
    if not words.no_facenet:
        for size, best in ((1.0, False), (1.0, True), (0.5, False), (0.5, True)):
            label = f"facenet, {'full' if size == 1 else 'half'}, {'at its best' if best else 'as it comes'}"
            spent = [core_seconds(lambda c=clip, s=size, b=best: facenet(read(c), s, b))[0] for clip in clips]  # type: ignore[misc]
            measured[label] = [statistics.mean(spent)]
    unit = statistics.median(measured["decoding alone"])
    ours = statistics.median(measured["extraction, per further clip"])
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"torch {torch.__version__}, OpenCV {cv2.__version__}, PyAV {av.__version__}; {time.strftime('%Y-%m-%d')}")
    print(f"{len(clips)} clips, {words.runs} runs: core-seconds per clip, median, lowest and highest\n")
    for label, values in measured.items():
        print(shown(label, values, unit), f"{statistics.median(values) / ours:6.2f} x ours")
    print("\nparts, mean of the clips")
    found = [parts(clip) for clip in clips]
    for label in found[0]:
        print(shown(label, [statistics.mean(f[label] for f in found)], unit))


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - start:.0f} s in all")
