"""Ten thousand small inputs, one in a hundred of them poisoned: is any lost, and what do they cost the others?

    python benchmarks/poisoned.py [--count 10000] [--commands infer,extract] [--workers 2] [--seconds-per-input 10]

Makes tiny stills and a few tiny clips, all different, and judges and extracts them twice: all sound, and with one in a
hundred replaced by what hurts: empty files, text, cuts, lying heads, bombs of pixels and of frames, a clip that decodes
for minutes, damaged clips, links to nowhere, pipes. While the poisoned run works, a worker is killed now and then, as by
a decoder that crashes. The wall limit of an input is `--seconds-per-input` in both runs. Prints a table for each run,
the time per input of one against the other, and the disk taken by reports; exit 1 if a line is off.
"""

import argparse
import contextlib
import io
import os
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

# The made files and the mutators are those of the tests.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "faults"))

import av
import numpy as np
from bench import Run
from fuzz_seeds import SIDE, face
from fuzz_watch import Check, Watched, internal, show, state_checks, usual_checks, verdict_checks, watch
from mutate import mutate
from PIL import Image as PillowImage

from dfpipe.preprocess.manifest import read_inputs
from dfpipe.types import State

MOST_MB = 1000.0  # of the main process, without library files
POISON_EVERY = 100
CLIP_EVERY = 50  # one input in so many is a clip
KILL_EVERY_S = 30.0  # between two deaths of workers in a poisoned run ...
STARTED_S = 30.0  # ... and is then as old at least, so that it is at work


# ---- what is judged -------------------------------------------------------------------------------------------------


def still(number: int) -> bytes:
    """A small picture of a face, another one for every number."""
    rng = np.random.default_rng(number)
    moved = np.roll(face(), rng.integers(-6, 7, 2), (0, 1)).astype(np.float32)
    noisy = moved * rng.uniform(0.7, 1.2) + rng.normal(0, 4, moved.shape)
    file = io.BytesIO()
    PillowImage.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def clip(number: int, frames: int = 6, side: int = SIDE) -> bytes:
    """A small clip of a face."""
    light = np.random.default_rng(number).uniform(0.7, 1.1)
    image = PillowImage.fromarray((face() * light).astype(np.uint8)).resize((side, side))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "clip.mp4")
        with av.open(str(path), "w", format="mp4") as out:
            stream: Any = out.add_stream("mpeg4", rate=25)
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            for i in range(frames):
                frame = np.roll(np.asarray(image), (number + 2 * i) % side, axis=1)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            out.mux(stream.encode(None))
        return path.read_bytes()


def png(width: int, height: int) -> bytes:
    """A sound PNG of one colour, of any size: a few kB for 20000 x 20000."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(b"\0" * (width + 1)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    parts = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def long_gif() -> bytes:
    """A GIF of 20,000 frames of one pixel."""
    frame = bytes.fromhex("21f9040001000000" + "2c00000000010001000002024401" + "00")
    return bytes.fromhex("474946383961010001008000000000" + "00ffffff") + frame * 20_000 + b";"


def endless_clip() -> bytes:
    """A clip of a few MB whose frames of 36 megapixels all hang on the first one: minutes of decoding."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "clip.mp4")
        with av.open(str(path), "w", format="mp4") as out:
            stream: Any = out.add_stream("mpeg4", rate=25)
            stream.width = stream.height = 6000
            stream.pix_fmt = "yuv420p"
            grey = av.VideoFrame(6000, 6000, "yuv420p")
            for plane in grey.planes:
                plane.update(b"\x80" * plane.buffer_size)
            packets = []
            for grey.pts in range(3):
                packets += stream.encode(grey)
            last = packets[-1]
            for packet in packets[:-1]:
                out.mux(packet)
            for i in range(400):  # the same "nothing has changed" again and again
                again = av.Packet(bytes(last))
                again.stream, again.time_base, again.duration = stream, Fraction(1, 25), 1
                again.pts = again.dts = 2 + i
                out.mux(again)
        return path.read_bytes()


def cut(number: int) -> bytes:
    """A still without its end."""
    return still(number)[: 300 + number % 1000]


def damaged(number: int) -> bytes:
    """A clip that the fuzzer's mutators have been at."""
    return mutate(clip(number), "mp4", Random(number))


POISON: Mapping[str, Callable[[int], bytes]] = {
    "empty": lambda number: b"",
    "text": lambda number: b"this is no picture\n" * 20,
    "html": lambda number: b"<html><body onload=alert(1)>404</body></html>",
    "cut_still": cut,
    "no_pixels": lambda number: b"\xff\xd8\xff\xe0" + b"\0" * 500,
    "pixel_bomb": lambda number: png(20_000, 20_000),
    "wide": lambda number: png(49_000_000, 1),
    "tiny": lambda number: png(1, 1),
    "cut_clip": lambda number: clip(number)[: 2000 + number % 500],
    "damaged_clip": damaged,
    "frame_bomb": lambda number: long_gif(),
    "playlist": lambda number: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "zip": lambda number: b"PK\x05\x06" + b"\0" * 18,
}
ODD_FILES: Mapping[str, Callable[[Path], object]] = {  # as they lie on a disk
    "link_to_nowhere": lambda path: path.symlink_to("nowhere"),
    "link_to_itself": lambda path: path.symlink_to(path.name),
    "pipe": lambda path: os.mkfifo(path),
}


def make(folder: Path, count: int, poisoned: bool) -> Counter[str]:
    """Writes inputs to stills/ and clips/, each with real/ and fake/. Returns how many of each kind."""
    kinds: Counter[str] = Counter()
    poison, cached = [*POISON, *ODD_FILES], {}
    for number in range(count):
        is_clip = number % CLIP_EVERY == 0
        place = folder / ("clips" if is_clip else "stills") / ("fake" if number % 3 else "real")
        path = place / f"{number:05d}{'.mp4' if is_clip else '.jpg'}"
        place.mkdir(parents=True, exist_ok=True)
        kind = "sound"
        turn = number // POISON_EVERY
        if poisoned and number % POISON_EVERY == POISON_EVERY // 2 + turn % 2:  # in turn among clips and stills
            kind = "endless" if turn == 1 else poison[turn % len(poison)]
        kinds[kind] += 1
        if kind in ODD_FILES:
            ODD_FILES[kind](path)
        elif kind == "sound":
            path.write_bytes(clip(number) if is_clip else still(number))
        elif kind in ("pixel_bomb", "wide", "frame_bomb"):  # slow to make, and the same each time
            path.write_bytes(cached.setdefault(kind, POISON[kind](number)))
        else:
            path.write_bytes(endless_clip() if kind == "endless" else POISON[kind](number))
    return kinds


Result = tuple[Watched, list[Check]]


# ---- the runs -------------------------------------------------------------------------------------------------------


class Killer:
    """Kills the oldest worker of a run a few times, as a decoder that crashes does."""

    def __init__(self, times: int) -> None:
        self._times = times
        self._next = KILL_EVERY_S
        self.killed = 0

    def __call__(self, run: Run, age: float) -> None:
        """Called at every look at the run."""
        if age < self._next or self.killed == self._times:
            return
        workers = [(_worker_age(pid), pid) for pid in run.left()]
        oldest, pid = max(workers, default=(0.0, 0))
        if oldest < STARTED_S:  # it may not have begun with its first input
            return
        self._next = age + KILL_EVERY_S
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.killed += 1


def _worker_age(pid: int) -> float:
    """Seconds since a worker began; 0 for one that has ended, and for multiprocessing's resource tracker."""
    try:
        if b"spawn_main" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return 0.0
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])  # starttime of proc(5)
    except OSError:
        return 0.0
    return float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def infer(
    folder: Path, out: Path, where: Path, words: list[str], seconds: float, killer: Killer | None, count: int
) -> Result:
    """Judges everything."""
    seen = watch(["infer", str(folder), "--out", str(out), *words], where, seconds, killer)
    checks, failed = verdict_checks(out, count)
    return seen, [*checks, *usual_checks(seen, out, failed, MOST_MB)]


def extract(
    folder: Path, out: Path, where: Path, words: list[str], seconds: float, killer: Killer | None, count: int
) -> Result:
    """Extracts everything. Pipes and links to nowhere are no files to it, and are told as left out."""
    kinds = ["--images", str(folder / "stills"), "--videos", str(folder / "clips")]
    seen = watch(["extract", *kinds, "--out", str(out), *words], where, seconds, killer)
    rows = read_inputs(out) if (out / "inputs.parquet").is_file() else []
    states = Counter(str(row["state"]) for row in rows)
    regular = sum(path.is_file() for path in folder.glob("*/*/*"))
    told = Check("no files at all", str(count - regular))
    checks = [*state_checks(states, regular), told, internal([str(row["reason"]) for row in rows])]
    failed = sum(number for state, number in states.items() if state not in (State.OK, State.PARTIAL, State.NO_FACE))
    return seen, [*checks, *usual_checks(seen, out, failed, MOST_MB)]


COMMANDS: Mapping[str, Callable[..., Result]] = {"infer": infer, "extract": extract}


def size_of(folder: Path) -> float:
    """Disk that a folder takes, MB."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / 1e6


def main() -> None:
    """Makes, runs, compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--commands", default="infer,extract")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds-per-input", type=float, default=10)
    parser.add_argument("--kills", type=int, default=3, help="Of workers, in each poisoned run.")
    parser.add_argument("--seconds", type=float, default=7200, help="A run is stopped after so long.")
    args = parser.parse_args()
    limit = [f"preprocess.limits.{name}={args.seconds_per_input:g}" for name in ("seconds", "seconds_at_most")]
    words = ["--workers", str(args.workers), "-q", *(word for one in limit for word in ("--set", one))]
    fine = True
    with tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        kinds = {kind: make(Path(name, kind), args.count, kind == "poisoned") for kind in ("clean", "poisoned")}
        print(f"made in {time.monotonic() - began:.0f} s; poison: {dict(kinds['poisoned'])}", flush=True)
        for command in args.commands.split(","):
            took = {}
            for kind in kinds:
                out, killer = Path(name, f"{command}_{kind}"), Killer(args.kills) if kind == "poisoned" else None
                where = Path(name, f"run_{command}_{kind}")
                seen, checks = COMMANDS[command](Path(name, kind), out, where, words, args.seconds, killer, args.count)
                took[kind] = seen.seconds
                disk = size_of(out)
                checks += [
                    Check("time per input", f"{1000 * seen.seconds / args.count:.0f} ms"),
                    Check("disk", f"{disk:.0f} MB, {1000 * disk / args.count:.0f} kB per input"),
                    *([Check("workers killed from outside", str(killer.killed))] if killer else []),
                ]
                if not show(f"{command}, {kind}, {args.count} inputs", checks):
                    fine = False
                    print(seen.printed[-2000:])
            print(f"\n{command}: poisoned / clean = {took['poisoned'] / took['clean']:.2f}", flush=True)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
