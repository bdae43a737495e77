"""What does one more input cost: the tenth, the ten thousandth, of a longer or a larger clip, with more workers?

    python benchmarks/scaling.py [--commands extract,infer] [--counts 10,100,1000] [--workers 1,2] [--frames 48,192]
        [--sides 320,640,1280] [--clips 20]

Makes its own inputs: stills of a face of 160 px, all different, and clips of a portrait. Each size is a run of the whole
command, in core-seconds of it and all its children. The cost of one more input is the difference between two sizes, so
that start-up does not count; it holds what renewing the children costs. Memory is looked at every half second: of the
main process, and of the largest child, in the early and the late third of a run.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "faults"))

import cv2
from poisoned import still

from dfpipe.demo import clip_frames, write_clip
from dfpipe.types import Image, Label

LOOK_S = 0.5
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
SOURCE = {"extract": {".jpg": "--images", ".mp4": "--videos"}, "infer": {}}


@dataclass
class Cost:
    """What a run took."""

    wall_s: float
    core_s: float  # of all processes
    main_s: float  # core-seconds of the main process alone
    memory: list[tuple[float, float]] = field(default_factory=list)  # MB of the main process and of its largest child

    def thirds(self, which: int) -> tuple[float, float]:
        """The most memory in the early and in the late third of the run, in MB: 0 of the main process, 1 of a child."""
        third = max(1, len(self.memory) // 3)
        return max(m[which] for m in self.memory[:third]), max(m[which] for m in self.memory[-third:])


def measured(words: list[str]) -> Cost:
    """Runs a dfpipe command and looks at it while it works."""
    began = time.monotonic()
    command = [sys.executable, "-m", "dfpipe", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    memory, main_s = [], 0.0
    while True:
        main_s = _core_s(process.pid) or main_s
        memory.append((_mb(process.pid), max(map(_mb, _children(process.pid)), default=0.0)))
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        time.sleep(LOOK_S)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(command)}: {(process.stderr.read() if process.stderr else b'').decode()[-2000:]}")
    return Cost(time.monotonic() - began, usage.ru_utime + usage.ru_stime, main_s, memory)


def _core_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK_S  # utime and stime of proc(5)


def _mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except (OSError, IndexError):
        return 0.0


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []


# ---- inputs ---------------------------------------------------------------------------------------------------------


def stills(folder: Path, count: int) -> Path:
    """Pictures of a face in folders real and fake."""
    for number in range(count):
        path = folder / ("fake" if number % 3 else "real") / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(still(number))
    return folder


def clips(folder: Path, count: int, frames: int, side: int) -> Path:
    """Clips of so many square frames."""
    for number in range(count):
        label = Label(number % 2)
        path = folder / label.name.lower() / f"{number:05d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, _frames(number, label, frames, side))
    return folder


def _frames(source: int, label: Label, count: int, side: int) -> Iterator[Image]:
    made = [cv2.resize(frame, (side, side)) for frame in clip_frames(source, label)]
    return islice(cycle([*made, *reversed(made)]), count)


def cost(command: str, folder: Path, suffix: str, workers: int) -> Cost:
    """One run into a folder of its own."""
    named = [SOURCE[command][suffix]] if SOURCE[command] else []
    settings = ["--stills", "detect"] if command == "extract" and suffix == ".jpg" else []
    with tempfile.TemporaryDirectory() as out:
        return measured(
            [command, *named, str(folder), *settings, "--out", f"{out}/out", "--workers", str(workers), "-q"]
        )


# ---- tables ---------------------------------------------------------------------------------------------------------


def by_count(command: str, counts: list[int], workers: int, where: Path) -> None:
    """The cost of one more still between one number of inputs and the next."""
    print(
        f"\n{command}, stills, {workers} workers: inputs, wall s, core-s, of them main process, cost of a further input, "
        "MB early/late"
    )
    before: tuple[int, Cost] | None = None
    first = 0.0
    for count in counts:
        now = cost(command, stills(where / f"stills{count}", count), ".jpg", workers)
        further = ""
        if before is not None:
            more = count - before[0]
            each, main = (
                1000 * (b - a) / more for a, b in ((before[1].core_s, now.core_s), (before[1].main_s, now.main_s))
            )
            first = first or each
            further = f"{each:7.1f} ms ({main:.1f} in the main process), {each / first:.2f} of the first step"
        memory = [
            f"{name} {early:.0f}/{late:.0f}"
            for name, (early, late) in (("main", now.thirds(0)), ("child", now.thirds(1)))
        ]
        print(
            f"{count:6d} {now.wall_s:8.1f} {now.core_s:8.1f} {now.main_s:7.1f} {further}  {', '.join(memory)}",
            flush=True,
        )
        before = (count, now)


def by_kind(
    command: str, folders: Iterable[tuple[str, Path]], count: int, workers: list[int], start: dict[int, Cost]
) -> None:
    """The cost of one clip of each kind, without start-up."""
    for name, folder in folders:
        for number in workers:
            now = cost(command, folder, ".mp4", number)
            each = 1000 * (now.core_s - start[number].core_s) / (count - 1)
            wall = 1000 * (now.wall_s - start[number].wall_s) / (count - 1)
            took = f"{each:7.0f} core-ms, {wall:7.0f} ms wall a clip, largest child {now.thirds(1)[1]:.0f} MB"
            print(f"{command} {name:>24}, {number} workers: {took}", flush=True)


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(word) for word in text.split(",") if word]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", default="extract,infer")
    parser.add_argument("--counts", type=numbers, default=[10, 100, 1000], help="Of stills; empty = none.")
    parser.add_argument("--workers", type=numbers, default=[1, 2])
    parser.add_argument("--frames", type=numbers, default=[48, 192], help="Of a clip of the smallest side.")
    parser.add_argument("--sides", type=numbers, default=[320, 640, 1280], help="Px, of a clip of the fewest frames.")
    parser.add_argument("--clips", type=int, default=20, help="Of each kind; 0 = none.")
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        for command in args.commands.split(","):
            by_count(command, args.counts, args.workers[-1], where)
            if args.clips:
                kinds = [(f"{frames} frames of {args.sides[0]} px", frames, args.sides[0]) for frames in args.frames]
                kinds += [(f"{args.frames[0]} frames of {side} px", args.frames[0], side) for side in args.sides[1:]]
                made = [(title, clips(where / f"{n}_{s}", args.clips, n, s)) for title, n, s in kinds]
                one = clips(where / "one", 1, args.frames[0], args.sides[0])
                start = {number: cost(command, one, ".mp4", number) for number in args.workers}
                by_kind(command, made, args.clips, args.workers, start)


if __name__ == "__main__":
    main()
