"""What does a verdict cost, and what do people wait for before anything happens?

    python benchmarks/infer_cost.py CLIP [--model FILE] [--runs 5] [--further 6] [--starts]

Everything is measured in turn, in every run, on this machine; compare ratios and shares, not seconds of different days.
Core-seconds count every process that a command starts; on a busy machine they say more than the clock.

- decoding alone: PyAV, all frames, one thread, no conversion.
- cold: the whole command from the shell on one clip. Below it what it waits for, each in an interpreter of its own and
  without the interpreter's own start: in the parent until its children start, then torch and the network; in the child,
  side by side with the latter, libraries and the networks that find faces.
- warm: what each further clip of a folder adds to the command, in the same processes: (W + N clips less W clips) / N, with
  W workers, each of which loads its libraries once. The clips are copies with a few bytes more at the end, which no MP4
  reader minds, because equal files are judged once.
- the parts of one more clip, worked through one after the other on one thread in a process that has everything loaded.
- with --starts: help, words that are wrong, and other commands on little or nothing.
"""

import argparse
import contextlib
import math
import os
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import click
import torch

from dfpipe.cli import main as dfpipe
from dfpipe.infer.detector import Detector
from dfpipe.infer.embedded import embedded_model
from dfpipe.infer.inputs import Upload
from dfpipe.infer.judging import Options, publish
from dfpipe.preprocess.crops import crop_face
from dfpipe.preprocess.faces import find_in_frames, load_detector
from dfpipe.preprocess.readers import BATCH, open_video
from dfpipe.preprocess.sampling import pick
from dfpipe.workers import default_workers

DECODING, WARM = "decoding alone", "warm, per further clip"
FEW = "a clip for each worker"
PARTS = {  # of the cold start -> code
    "interpreter": "",
    "  parent, until children start": (
        "import dfpipe.cli, dfpipe.infer.judging; dfpipe.infer.judging.Detector.load(later=True)"
    ),
    "  parent, with torch and network": "from dfpipe.infer.detector import Detector; Detector.load().scorer",
    "  child, until it is ready": (
        "import dfpipe.cli; from dfpipe.infer.looking import *; from dfpipe.preprocess.facefinder import *; "
        "start_finder(FacesConfig(), LimitsConfig())"
    ),
}
WORDS = (["--help"], ["infer", "--nonsense"])
SERVE_S = 300.0  # most that a service may take to be ready


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and core-seconds."""

    wall: float
    core: float

    def less(self, other: "Cost", parts: int = 1) -> "Cost":
        """A share of the difference."""
        return Cost((self.wall - other.wall) / parts, (self.core - other.core) / parts)


Costs = dict[str, list[Cost]]


@contextmanager
def measured(costs: Costs, name: str) -> Iterator[None]:
    """Adds what is done inside, here and in processes that end inside."""
    wall, core = time.perf_counter(), _core_seconds()
    yield
    costs[name].append(Cost(time.perf_counter() - wall, _core_seconds() - core))


def _core_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def python(folder: Path, *words: str, codes: tuple[int, ...] = (0,)) -> None:
    """A fresh interpreter in a folder, so that no model of this checkout is taken."""
    ended = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)
    if ended.returncode not in codes:
        raise RuntimeError(f"{' '.join(words)} ended with {ended.returncode}: {ended.stderr}")


def decode(clip: Path) -> int:
    """Decodes a clip and throws its frames away."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        return sum(1 for _ in container.decode(stream))


def copies(clip: Path, folder: Path, count: int) -> None:
    """Copies that differ in the length of an empty box at their end (ISO/IEC 14496-12, "free"): files of one size wait."""
    folder.mkdir()
    for i in range(count):
        box = b"free" + bytes(i)
        (folder / f"{i}{clip.suffix}").write_bytes(clip.read_bytes() + (len(box) + 4).to_bytes(4, "big") + box)


def run_commands(costs: Costs, clip: Path, model: list[str], further: int, workers: list[str]) -> None:
    """Cold and warm, in fresh processes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies(clip, folder / "one", 1)
        few = int(workers[-1]) if workers else default_workers()
        copies(clip, folder / "few", few)
        copies(clip, folder / "many", few + further)
        with measured(costs, "cold, whole command"):
            python(folder, "-m", "dfpipe", "infer", "one", "--out", "a", *model, *workers)
        for part, code in PARTS.items():
            with measured(costs, part):
                python(folder, "-c", code)
            if part != "interpreter":
                costs[part].append(costs[part].pop().less(costs["interpreter"][-1]))
        with measured(costs, "judged before"):
            python(folder, "-m", "dfpipe", "infer", "one", "--out", "a", *model, *workers)
        with measured(costs, FEW):
            python(folder, "-m", "dfpipe", "infer", "few", "--out", "b", *model, *workers)
        with measured(costs, WARM):
            python(folder, "-m", "dfpipe", "infer", "many", "--out", "c", *model, *workers)
        costs[WARM].append(costs[WARM].pop().less(costs[FEW][-1], further))


class Warm:
    """A process that has everything loaded."""

    def __init__(self, clip: Path, model: Path | None) -> None:
        torch.set_num_threads(1)
        self.upload, self.detector = Upload(clip), Detector.load(model or embedded_model(), "cpu")
        self.faces = self.detector.model.card.faces
        self.finder = load_detector(self.faces)
        (self.judged,) = self.detector.examine([self.upload], "serial")
        self.parts(defaultdict(list))

    def parts(self, costs: Costs) -> None:
        """The parts of one more clip."""
        with measured(costs, "  decoded"), open_video(self.upload.path, self.faces.reader) as video:
            images = [frame.image for frame in video.frames(pick(video.timeline, self.faces))]
        batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
        with measured(costs, "  detected"):
            boxes = [found for batch in batches for found in find_in_frames(self.finder, batch, self.faces)]
        with measured(costs, "  cut"):
            for image, some in zip(images, boxes, strict=True):
                for box in some:
                    crop_face(image, box, self.faces.crop_scale, self.faces.crop_size)
        with measured(costs, "  scored"):
            self.detector.score(self.judged.crops)
        with tempfile.TemporaryDirectory() as name, measured(costs, "  report written"):
            publish(self.judged, Path(name) / "report", self.detector, Options())


def run_starts(costs: Costs, clip: Path) -> None:
    """Help, and other commands."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "real").mkdir()
        shutil.copy(clip, folder / "real")
        for words in WORDS:
            with measured(costs, f"dfpipe {' '.join(words)}"):
                python(folder, "-m", "dfpipe", *words, codes=(0, 2))
        pages: Costs = defaultdict(list)
        for command in commands(dfpipe):
            with measured(pages, " ".join(command)):
                python(folder, "-m", "dfpipe", *command, "--help")
        slowest = max((cost for page in pages.values() for cost in page), key=lambda cost: cost.wall)
        costs[f"dfpipe COMMAND --help, slowest of {len(pages)}"].append(slowest)
        with measured(costs, "dfpipe extract, one clip"):
            python(folder, "-m", "dfpipe", "extract", "--videos", ".", "--out", "faces")
        with measured(costs, "dfpipe doctor"):
            python(folder, "-m", "dfpipe", "doctor", codes=(0, 1))
        start_service(costs, folder)


def commands(group: click.Group) -> Iterator[list[str]]:
    """Every command."""
    for name, command in group.commands.items():
        yield [name]
        if isinstance(command, click.Group):
            yield from ([name, *below] for below in commands(command))


def start_service(costs: Costs, folder: Path) -> None:
    """Until the page answers, and until the first file would be judged at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "dfpipe", "serve", "--port", str(port), "--data", "service"]
    begun = time.perf_counter()
    server = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for page, what in (("healthz", "it answers"), ("readyz", "it is ready")):
        _wait_for(f"http://127.0.0.1:{port}/{page}", server)
        costs[f"dfpipe serve, until {what}"].append(Cost(time.perf_counter() - begun, math.nan))
    server.terminate()
    server.wait()


def _wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + SERVE_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.02)
    server.kill()
    raise RuntimeError(f"no answer from {address}")


def tell(costs: Costs, name: str, ratio: bool = True) -> None:
    """A line of the table."""
    walls, cores = ([getattr(cost, kind) for cost in costs[name]] for kind in ("wall", "core"))
    line = f"{name:<40}{statistics.median(walls):7.2f} s"
    if not math.isnan(cores[0]):
        line += f"{statistics.median(cores):8.2f} core-s  ({min(cores):.2f} to {max(cores):.2f})"
    if ratio:
        times = [
            statistics.median(getattr(cost, kind) for cost in costs[name])
            / statistics.median(getattr(cost, kind) for cost in costs[DECODING])
            for kind in ("wall", "core")
        ]
        line += f"  {times[0]:5.2f} and {times[1]:5.2f} x decoding"
    print(line)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", type=Path, help="default: what ships with dfpipe")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--further", type=int, default=6, help="clips after the first of each worker, for the warm figure"
    )
    parser.add_argument("--workers", help="of dfpipe infer")
    parser.add_argument("--starts", action="store_true")
    words = parser.parse_args()
    clip, model = words.clip.resolve(), words.model.resolve() if words.model else None
    options: list[Any] = ["--model", str(model)] if model else []
    workers = ["--workers", words.workers] if words.workers else []
    costs: Costs = defaultdict(list)
    warm = Warm(clip, model)
    steps: list[Callable[[], None]] = [
        lambda: run_commands(costs, clip, options, words.further, workers),
        lambda: warm.parts(costs),
    ]
    if words.starts:
        steps.append(lambda: run_starts(costs, clip))
    for _ in range(words.runs):
        with measured(costs, DECODING):
            decode(clip)
        for step in steps:
            step()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "timm", "av", "opencv-python-headless")
    )
    print(
        f"{platform.processor() or platform.machine()}, {cores} cores, Python {platform.python_version()}, {versions}"
    )
    print(f"{clip.name}, median of {words.runs} runs in turn; in brackets the lowest and highest core-seconds\n")
    for name in costs:
        tell(costs, name, ratio=not name.startswith("dfpipe"))


if __name__ == "__main__":
    main()
