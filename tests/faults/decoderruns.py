"""Decoders that fail in every way, in the real pool: a row for each, from one run."""

import json
import re
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import baddecoders
from badmedia import clip
from bench import Facts, Row, Run, skip_unless_linux

from dfpipe.config import FacesConfig, LimitsConfig
from dfpipe.errors import MediaError
from dfpipe.workers import run_all

SECONDS = 3.0  # wall limit of an input
LIMITS = LimitsConfig(seconds=SECONDS, memory_gb=1.0, file_gb=0.05)

# Name of the fault -> what must be seen of its input
STATES: dict[str, Facts] = {
    "segfault": {"state": "crashed", "reason": re.compile("SIGSEGV")},
    "hang_with_the_lock": {"state": "timeout", "reason": re.compile("3 s")},
    "hang_deaf": {"state": "timeout"},
    "allocate": {"state": "too_large", "reason": re.compile("memory")},
    "allocate_in_c": {"state": "crashed", "reason": re.compile("SIGABRT")},
    "leave": {"state": "crashed"},
    "flood": {"state": "no_face"},
    "fork_and_hang": {"state": "timeout"},
    "fork_and_die": {"state": "crashed"},
    "start_a_program": {"state": frozenset({"crashed", "timeout"})},
    "connect": {"state": "crashed", "reason": re.compile("PermissionError|Permission denied")},
    "fill_the_disk": {"state": frozenset({"too_large", "crashed", "unreadable"})},
    "interrupt": {"state": "crashed"},
    "nothing": {"state": "no_face"},
}


def main() -> None:
    """Gives every fault to the pool, and prints what became of each as a line of JSON. The first argument is a folder."""
    folder = Path(sys.argv[1])
    paths = [folder / f"{name}.mp4" for name in (*baddecoders.FAULTS, *(f"sound {i}" for i in range(6)))]
    for path in paths:
        path.write_bytes(clip())
    faces = FacesConfig(frames=4)
    setup = baddecoders.setup("none", faces, LIMITS)
    for path, result in run_all(baddecoders.look, paths, setup=setup, workers=2, bounds=LIMITS):
        _tell(path.stem, result)
    setup = baddecoders.setup("bad", replace(faces, crop_size=64), LIMITS)
    for _, result in run_all(baddecoders.look, paths[-1:], setup=setup, workers=1, bounds=LIMITS):
        _tell("bad boxes", result)


def _tell(name: str, result: Any) -> None:
    if isinstance(result, MediaError):
        print(json.dumps([name, str(result.state), str(result), 0]), flush=True)
    else:
        boxes = len({crop.box for crop in result.crops})
        print(json.dumps([name, str(result.state), result.reason, boxes]), flush=True)


class DecoderRun:
    """Runs `main` once, in a process of its own."""

    def __init__(self, root: Path) -> None:
        self._root, self._lock = root, threading.Lock()
        self._seen: dict[str, Facts] = {}

    def seen(self) -> dict[str, Facts]:
        """Name of an input to what became of it; "run" for the run as a whole."""
        with self._lock:
            if not self._seen:
                self._seen = self._run()
            return self._seen

    def _run(self) -> dict[str, Facts]:
        skip_unless_linux()
        media = self._root / "media"
        media.mkdir(parents=True)
        program = ("-c", "import decoderruns; decoderruns.main()", str(media))
        path = str(Path(__file__).parent)
        run = Run(program, self._root / "run", command=(sys.executable,), env={"PYTHONPATH": path})
        code = run.exit(150)
        seen: dict[str, Facts] = {}
        for line in (run.folder / "stdout").read_text().splitlines():
            name, state, reason, boxes = json.loads(line)
            seen[name] = {"state": state, "reason": reason, "boxes": boxes}
        seen["run"] = {
            "exit": code,
            "sound inputs": sum(name.startswith("sound") and seen[name]["state"] == "no_face" for name in seen),
            "orphans": run.orphans(),
            "left in the temporary folder": run.litter(),
            "bytes on the terminal": len((run.folder / "stderr").read_bytes()),
        }
        return seen


def decoder_rows(runs: DecoderRun) -> list[Row]:
    """A row for each fault, and one for what must hold of all."""
    rows = [
        Row(
            f"decoder: {name.replace('_', ' ')}",
            f"a decoder that {' '.join((baddecoders.FAULTS[name].__doc__ or '').split()).rstrip('.').lower()}",
            expected,
            lambda _, name=name: runs.seen().get(name, {}),  # type: ignore[misc]
            late=True,
        )
        for name, expected in STATES.items()
    ]
    rows.append(
        Row(
            "detector: impossible boxes",
            "a detector that answers NaN, infinity, boxes without area and far outside",
            {"state": "ok", "boxes": 1},
            lambda _: runs.seen().get("bad boxes", {}),
            late=True,
        )
    )
    rows.append(
        Row(
            "decoders that fail harm nobody else",
            "all of these beside 6 sound clips, on 2 workers",
            {
                "exit": 0,
                "sound inputs": 6,
                "orphans": 0,
                "left in the temporary folder": [],
                "bytes on the terminal": range(10_000),
            },
            lambda _: runs.seen()["run"],
        )
    )
    return rows
