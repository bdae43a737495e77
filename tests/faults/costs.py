"""Reads every file of the current folder as a worker does, and prints for each: name, s, MB more than before.

In one process without networks, so that the peak of its memory tells what the reader takes.
"""

import contextlib
import json
import os
import re
import resource
import stat
import time
from pathlib import Path

from dfpipe.config import LimitsConfig
from dfpipe.errors import MediaError
from dfpipe.names import as_text
from dfpipe.preprocess.containers import media_kind
from dfpipe.preprocess.readers import open_video
from dfpipe.preprocess.stills import open_image

LOOK_AT = 4  # frames


def read(path: Path) -> None:
    """Opens a file and decodes a few frames."""
    if media_kind(path) == "image":
        open_image(path)
        return
    with open_video(path, limits=LimitsConfig()) as video:
        last = len(video.timeline.times) - 1
        for _ in video.frames(sorted({i * last // (LOOK_AT - 1) for i in range(LOOK_AT)})):
            pass


def peak() -> float:
    """MB of memory that this process took at most, since it was last asked to forget."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1000 if found else 0.0


def main() -> None:
    """Reads and prints."""
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    for reader in ("pyav", "decord"):  # loads the libraries
        with open_video(Path("sound.mp4"), reader) as video:
            list(video.frames([0]))
    read(Path("sound.png"))
    for path in sorted(Path().iterdir()):
        if stat.S_ISREG(path.lstat().st_mode) and os.fork() == 0:  # some kill the process that reads them
            measure(path)
            os._exit(0)
        with contextlib.suppress(ChildProcessError):
            os.wait()


def measure(path: Path) -> None:
    """Reads one file, and prints what that took."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak, see proc(5)
    before, start = peak(), time.monotonic()
    with contextlib.suppress(MediaError, MemoryError):
        read(path)
    print(json.dumps([as_text(path.name), time.monotonic() - start, max(0.0, peak() - before)]), flush=True)


if __name__ == "__main__":
    main()
