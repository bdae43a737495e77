"""`dfpipe` as a process that is killed, stopped, starved of disk or started twice: a function for each fault.

Each works in an empty folder of its own, so that several can run side by side.
"""

import functools
import json
import random
import re
import shutil
import signal
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import badmedia as made
from bench import Facts, Once, Row, Run, Skip, skip_unless_linux, temporaries, tree

from dfpipe.config import Config, load_config
from dfpipe.demo import clip_frames
from dfpipe.infer.detector import Detector
from dfpipe.infer.embedded import embedded_model
from dfpipe.infer.inputs import Upload
from dfpipe.infer.judging import Options, judge_into
from dfpipe.preprocess.extract import extract
from dfpipe.train.loop import resume, train
from dfpipe.types import Label

FRAMES = 4
SOURCES = 8  # enough for the three splits, with both labels in each
SETTINGS = (f"preprocess.faces.frames={FRAMES}", "preprocess.faces.detect_side=320")
TRAINING = (
    "train.model=simple_cnn",
    "train.image_size=64",
    "train.epochs=12",
    "train.augment=none",
    "train.early_stop=0",
)
SERIAL = ("--engine", "serial")
BLOCK = 512  # bytes that `ulimit -f` counts in (POSIX)


def config() -> Config:
    """Few and small frames."""
    return load_config("demo", [*SETTINGS, *TRAINING])


def set_words() -> tuple[str, ...]:
    """The same on the command line."""
    return ("--config", "demo", *(word for setting in SETTINGS for word in ("--set", setting)))


class Shared(Once):
    """What several scenarios begin with."""

    @property
    def clips(self) -> Path:
        """Clips in folders real and fake."""
        return self.once("clips", lambda: make_clips(self.root / "clips"))

    @property
    def faces(self) -> Path:
        """What an extraction of `clips` makes that nothing disturbs."""
        return self.once("faces", lambda: extract([self.clips], [], self.root / "faces", config(), engine="serial").out)

    @property
    def trained(self) -> Path:
        """The run folder of a training on `faces` that nothing disturbs."""
        runs = self.root / "runs"
        return self.once("trained", lambda: train(config(), self.faces, runs, "demo", "cpu").model.parent)

    @property
    def stills(self) -> Path:
        """Twelve portraits."""
        return self.once("stills", lambda: make_stills(self.root / "stills", 12))

    @property
    def detector(self) -> Detector:
        """The model that ships."""
        return self.once("detector", lambda: Detector.load(embedded_model(), "cpu"))


def make_clips(folder: Path) -> Path:
    """Short clips of the made-up sources."""
    for label in Label:
        place = folder / label.name.lower()
        place.mkdir(parents=True)
        for source in range(SOURCES):
            frames = [image for i, image in enumerate(clip_frames(source, label)) if i % 8 == 0]
            (place / f"{source}.mp4").write_bytes(made.encoded(frames))
    return folder


def make_stills(folder: Path, count: int) -> Path:
    """Portraits, each turned a little more."""
    folder.mkdir(parents=True)
    for i in range(count):
        picture = made.portrait().rotate(i, resample=3)
        (folder / f"{i:02d}.jpg").write_bytes(made.still(picture, "JPEG"))
    return folder


def extract_words(shared: Shared, out: Path, *more: str) -> tuple[str, ...]:
    """`dfpipe extract` of the clips."""
    return ("extract", "--videos", str(shared.clips), "--out", str(out), *set_words(), *more)


def infer_words(shared: Shared, out: Path, *more: str) -> tuple[str, ...]:
    """`dfpipe infer` of the stills."""
    return ("infer", str(shared.stills), "--out", str(out), "--device", "cpu", *more)


def extraction(out: Path) -> dict[str, bytes]:
    """What two extractions of the same clips must have in common to the byte."""
    return tree(out, "manifest.parquet", "crops/**/*.jpg", "crops/**/*.png")


def lines(out: Path) -> dict[str, Any]:
    """File name -> whole lines of verdicts.jsonl; a line that is there twice counts as "twice"."""
    path = out / "verdicts.jsonl"
    found: dict[str, Any] = {}
    for text in path.read_text().splitlines(keepends=True) if path.is_file() else []:
        if text.endswith("\n"):
            line = json.loads(text)
            name = Path(line["path"]).name
            found[name] = "twice" if name in found else line
    return found


def reports(out: Path) -> str:
    """How many verdicts have a whole report, as "N of M"."""
    told = [line for line in lines(out).values() if line != "twice"]
    whole = sum(
        (out / line["report"]).read_text(encoding="utf-8").endswith("</html>")
        and json.loads((out / line["report"]).with_name("report.json").read_text()) == line
        for line in told
    )
    return f"{whole} of {len(told)}"


# ---- kill -9 ---------------------------------------------------------------------------------------------------------


def killed_extract(shared: Shared, here: Path) -> Facts:
    """Killed at two random moments, then run to its end."""
    skip_unless_linux()
    rng, out, orphans = random.Random(), here / "faces", 0
    for number in range(2):
        run = Run(extract_words(shared, out, "--workers", "1"), here / f"run{number}")
        before = len(extraction(out))
        run.until(lambda before=before: len(extraction(out)) > before, 60)  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.5))
        run.kill()
        orphans += run.orphans()
    summary = extract([shared.clips], [], out, config(), engine="serial")
    return {
        "states": summary.states,
        "kept": summary.resumed > 0,
        "same bytes as undisturbed": extraction(out) == extraction(shared.faces),
        "orphans": orphans,
        "temporary files": temporaries(out),
    }


_HOOK = """import os, pathlib, dfpipe.ledger as ledger
replace, record, count = pathlib.Path.replace, ledger.Ledger.record, [0]
def before_replace(self, target):
    os.kill(os.getpid(), 9) if {replacing} else None
    return replace(self, target)
def before_record(self, *rest):
    count[0] += 1
    os.kill(os.getpid(), 9) if count[0] == {recorded} else None
    return record(self, *rest)
pathlib.Path.replace, ledger.Ledger.record = before_replace, before_record
"""
HOOKS = {  # where a run kills itself
    "before a crop folder takes its place": _HOOK.format(replacing="self.is_dir()", recorded=0),
    "between crops and ledger": _HOOK.format(replacing="False", recorded=3),
    "between fsync and rename of the manifest": _HOOK.format(replacing="'manifest' in self.name", recorded=0),
}


def killed_at(point: str, shared: Shared, here: Path) -> Facts:
    """Kills itself at one point of the code, then is run again."""
    out = here / "faces"
    program = f"{HOOKS[point]}from dfpipe.cli import main\nmain()\n"
    run = Run(extract_words(shared, out, *SERIAL), here / "run", command=(sys.executable, "-c", program))
    code = run.exit()
    half = (out / "manifest.parquet").exists()
    summary = extract([shared.clips], [], out, config(), engine="serial")
    return {
        "killed with": code,
        "manifest before": half,
        "states": summary.states,
        "same bytes as undisturbed": extraction(out) == extraction(shared.faces),
        "temporary files": temporaries(out),
    }


def train_words(shared: Shared, out: Path) -> tuple[str, ...]:
    """`dfpipe train` on the faces."""
    more = (word for setting in (*SETTINGS, *TRAINING) for word in ("--set", setting))
    return ("train", "--data", str(shared.faces), "--out", str(out), "--device", "cpu", "--config", "demo", *more)


def killed_train(shared: Shared, here: Path) -> Facts:
    """Killed at a random moment of some epoch, then resumed."""
    runs = here / "runs"
    run = Run(train_words(shared, runs), here / "run")
    run.until(lambda: list(runs.glob("*/state.pt")))
    time.sleep(random.Random().uniform(0, 0.3))
    run.kill()
    (folder,) = runs.iterdir()
    begun = (folder / "state.pt").is_file()
    resume(folder, "cpu")
    return {
        "killed before its end": begun,
        "weights as undisturbed": weights(folder) == weights(shared.trained),
        "temporary files": temporaries(runs),
        "checkpoint left": (folder / "state.pt").exists(),
    }


def weights(run: Path) -> dict[str, bytes]:
    """The tensors of a run's model: name -> bytes."""
    from safetensors.numpy import load_file

    return {name: value.tobytes() for name, value in load_file(run / "model.safetensors").items()}


def killed_infer(shared: Shared, here: Path) -> Facts:
    """Killed at a random moment, then run again; a second run at the same time is refused."""
    skip_unless_linux()
    out = here / "verdicts"
    run = Run(infer_words(shared, out, "--workers", "1"), here / "run")
    run.until(lambda: len(lines(out)) >= 2)
    time.sleep(random.Random().uniform(0, 0.3))
    run.kill()
    before = lines(out)
    again = Run(infer_words(shared, out, *SERIAL), here / "again")
    code, after = again.exit(), lines(out)
    return {
        "exit": code,
        "judged": sorted(after) == sorted(path.name for path in shared.stills.iterdir()),
        "twice": [name for name, line in after.items() if line == "twice"],
        "judged before and again": [name for name in before if before[name] != after.get(name)],
        "whole reports": reports(out),
        "orphans": run.orphans() + again.orphans(),
        "temporary files": temporaries(out),
        "left in the temporary folder": again.litter(),
    }


def killed_watch(shared: Shared, here: Path) -> Facts:
    """Killed while files arrive, started again, and stopped."""
    skip_unless_linux()
    inbox, out = here / "inbox", here / "verdicts"
    inbox.mkdir()
    words = ("watch", str(inbox), "--out", str(out), "--device", "cpu", *SERIAL, "--every", "0.1", "--settle", "0.2")
    stills = sorted(shared.stills.iterdir())
    run = Run(words, here / "run")
    for still in stills[:4]:
        shutil.copy(still, inbox)
    run.until(lambda: len(lines(out)) >= 1)
    run.kill()
    before = lines(out)
    for still in stills[4:6]:
        shutil.copy(still, inbox)  # arrive while nobody watches
    again = Run(words, here / "again")
    again.until(lambda: len(lines(out)) == 6)
    again.signal(signal.SIGTERM)
    code, after = again.exit(20), lines(out)
    return {
        "exit": code,
        "judged": len(after),
        "judged before and again": [name for name in before if before[name] != after.get(name)],
        "whole reports": reports(out),
        "temporary files": temporaries(out),
        "left in the temporary folder": again.litter(),
    }


# ---- the service -----------------------------------------------------------------------------------------------------


def served(data: Path, here: Path) -> tuple[Run, str]:
    """A service that listens, and where."""
    words = ("serve", "--port", "0", "--data", str(data), "--model", str(embedded_model()), "--device", "cpu")
    run = Run((*words, "--min-free-mb", "1", "--frames", str(FRAMES)), here)
    found: list[str] = []
    run.until(lambda: found.extend(re.findall(r"http://\S+", run.printed)) or found)
    if not found:
        raise Skip(f"the service does not start: {run.printed[-300:]}")
    return run, found[0].rstrip("/.")


def ask(url: str, body: bytes | None = None, kind: str = "") -> Any:
    """One request; what it answers as JSON."""
    request = urllib.request.Request(url, body, {"Content-Type": kind} if kind else {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def upload(url: str, name: str, data: bytes) -> str:
    """One file. Returns the id of its job."""
    border = uuid.uuid4().hex
    head = f'--{border}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{border}--\r\n".encode()
    answer = ask(f"{url}/v1/jobs", body, f"multipart/form-data; boundary={border}")
    return str(answer["jobs"][0]["id"])


def killed_serve(shared: Shared, here: Path) -> Facts:
    """Killed with jobs in its queue, of which one is a decoder's poison; started again; asked to stop."""
    skip_unless_linux()
    run, url = served(here / "data", here / "run")
    files = [still.read_bytes() for still in sorted(shared.stills.iterdir())[:3]]
    ids = [upload(url, f"{i}.jpg", data) for i, data in enumerate(files)]
    ids.append(upload(url, "../../etc/passwd<script>.mp4", made.cut(made.clip(), 0.4)))
    time.sleep(random.Random().uniform(0, 2))
    run.kill()
    orphans = run.orphans()
    again, url = served(here / "data", here / "again")
    states: dict[str, str] = {}

    def all_ended() -> bool:
        states.update({job: ask(f"{url}/v1/jobs/{job}")["state"] for job in ids})
        return set(states.values()) <= {"done", "failed"}

    again.until(all_ended)
    uploads = sorted(path.name for path in (here / "data" / "uploads").iterdir())
    again.signal(signal.SIGTERM)
    code = again.exit(30)
    return {
        "jobs": [states.get(job) for job in ids],
        "exit": code,
        "files stored under their ids": set(uploads) <= set(ids),
        "orphans": orphans + again.orphans(),
        "left in the temporary folder": again.litter(),
        "tracebacks": again.printed.count("Traceback"),
    }


# ---- signals ---------------------------------------------------------------------------------------------------------


def stopped(signs: Sequence[int], shared: Shared, here: Path) -> Facts:
    """Stopped by signals in the middle of an extraction, then run again."""
    skip_unless_linux()
    out = here / "faces"
    run = Run(extract_words(shared, out, "--workers", "1"), here / "run")
    run.until(lambda: len(list(out.glob("crops/*/*"))) > 1)  # the first is in the ledger then
    for sign in signs:
        run.signal(sign)
        time.sleep(0.01)
    start = time.monotonic()
    code = run.exit(30)
    seconds = time.monotonic() - start
    orphans = run.orphans()
    summary = extract([shared.clips], [], out, config(), engine="serial")
    return {
        "exit": code,
        "seconds": int(seconds),
        "orphans": orphans,
        "tracebacks": run.printed.count("Traceback"),
        "kept": summary.resumed > 0,
        "same bytes as undisturbed": extraction(out) == extraction(shared.faces),
        "temporary files": temporaries(out),
    }


# ---- disk ------------------------------------------------------------------------------------------------------------


def small_files(kilobytes: int) -> tuple[str, ...]:
    """A command before which no file may grow beyond a size: to a program the disk is full then (EFBIG)."""
    limit = 'ulimit -f "$0" && exec "$@"'
    return ("sh", "-c", limit, str(kilobytes * 1024 // BLOCK), sys.executable, "-m", "dfpipe")


def full_disk_extract(kilobytes: int, crops: str, shared: Shared, here: Path) -> Facts:
    """No room for crops, or for the ledger; then there is room."""
    out = here / "faces"
    words = extract_words(shared, out, *SERIAL, "--set", f"preprocess.crop_format={crops}")
    run = Run(words, here / "run", command=small_files(kilobytes))
    code = run.exit()
    with_room = load_config("demo", [*SETTINGS, *TRAINING, f"preprocess.crop_format={crops}"])
    summary = extract([shared.clips], [], out, with_room, engine="serial")
    return {
        "exit": code,
        "told": run.printed.splitlines()[-1],
        "tracebacks": run.printed.count("Traceback"),
        "afterwards": summary.states,
        "temporary files": temporaries(out),
    }


def full_disk_infer(kilobytes: int, shared: Shared, here: Path) -> Facts:
    """No room for a report; then there is room."""
    out = here / "verdicts"
    run = Run(infer_words(shared, out, *SERIAL), here / "run", command=small_files(kilobytes))
    code = run.exit()
    uploads = [Upload(path) for path in sorted(shared.stills.iterdir())]
    told = list(judge_into(shared.detector, uploads, out, Options(engine="serial")))
    return {
        "exit": code,
        "told": run.printed.splitlines()[-1],
        "tracebacks": run.printed.count("Traceback"),
        "afterwards": len(told),
        "whole reports": reports(out),
        "temporary files": temporaries(out),
    }


def full_disk_train(kilobytes: int, shared: Shared, here: Path) -> Facts:
    """No room for a checkpoint."""
    runs = here / "runs"
    run = Run(train_words(shared, runs), here / "run", command=small_files(kilobytes))
    code = run.exit()
    return {
        "exit": code,
        "told": run.printed.splitlines()[-1],
        "tracebacks": run.printed.count("Traceback"),
        "temporary files": temporaries(runs),
    }


# ---- environment -----------------------------------------------------------------------------------------------------

CLOCK = """import itertools, time
real, hours = time.time, itertools.count()
time.time = lambda: real() - 3600 * next(hours)  # each time it is asked, an hour earlier
time.time_ns = lambda: int(time.time() * 1e9)
"""


def odd_environment(env: dict[str, str | None], clock: str, shared: Shared, here: Path) -> Facts:
    """Judges a still in an environment that lacks something or lies; compares with the usual one."""
    name = "pörtrait \N{GRINNING FACE}.jpg"
    media = here / "in"
    media.mkdir()
    shutil.copy(shared.stills / "00.jpg", media / name)
    if clock:
        (here / "sitecustomize.py").write_text(clock)
        env = {**env, "PYTHONPATH": str(here)}
    words = ("infer", str(media / name), "--out", str(here / "verdicts"), "--device", "cpu", "--workers", "1")
    run = Run(words, here / "run", env=env)
    code = run.exit()
    (usual,) = judge_into(shared.detector, [Upload(media / name)], here / "usual", Options(engine="serial"))
    line = lines(here / "verdicts").get(name, {})
    return {
        "exit": code,
        "same scores and id as usual": [line.get(k) for k in ("scores", "p_fake", "report")]
        == [usual.line[k] for k in ("scores", "p_fake", "report")],
        "orphans": run.orphans(),
        "left in the temporary folder": run.litter(),
        "tracebacks": run.printed.count("Traceback"),
    }


# ---- rows ------------------------------------------------------------------------------------------------------------

_CLEAN = {"temporary files": []}
_SAME = {"same bytes as undisturbed": True, **_CLEAN}
_QUIET = {"orphans": 0, "left in the temporary folder": []}
_FULL: Facts = {"exit": 5, "told": re.compile("space|written|disk"), "tracebacks": 0, **_CLEAN}
_ALL_OK = {"ok": 2 * SOURCES}
ENVIRONMENTS: dict[str, tuple[str, dict[str, str | None], str]] = {
    "no HOME, LANG=C, far time zone": (
        "HOME and USER unset, LANG=C, output in ASCII, TZ=Pacific/Kiritimati",
        {"HOME": None, "USER": None, "LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
        | {"TZ": "Pacific/Kiritimati"},
        "",
    ),
    "read-only HOME, clock that runs backwards": (
        "HOME=/proc, every look at the clock an hour earlier than the last",
        {"HOME": "/proc", "XDG_CACHE_HOME": "/proc"},
        CLOCK,
    ),
}


def process_rows(shared: Shared) -> list[Row]:
    """A row for each fault of a process."""

    def row(name: str, fault: str, expected: Facts, scenario: Callable[..., Facts], *first: Any) -> Row:
        return Row(name, fault, expected, functools.partial(scenario, *first, shared))

    return [
        row(
            "kill -9 of extract",
            "at two random moments",
            {"states": _ALL_OK, "kept": True, "orphans": 0, **_SAME},
            killed_extract,
        ),
        *(
            row(
                f"kill -9 of extract {point}",
                "by itself, at that line",
                {"killed with": -9, "manifest before": False, "states": _ALL_OK, **_SAME},
                killed_at,
                point,
            )
            for point in HOOKS
        ),
        row(
            "kill -9 of train",
            "at a random moment, then --resume",
            {
                "killed before its end": True,
                "weights as undisturbed": True,
                "checkpoint left": False,
                **_CLEAN,
            },
            killed_train,
        ),
        row(
            "kill -9 of infer",
            "at a random moment, then again",
            {"exit": 0, "judged": True, "twice": [], "judged before and again": [], "whole reports": "12 of 12"}
            | {**_QUIET, **_CLEAN},
            killed_infer,
        ),
        row(
            "kill -9 of watch",
            "while files arrive; files arrive while nobody watches; then SIGTERM",
            {"exit": 143, "judged": 6, "judged before and again": [], "whole reports": "6 of 6"}
            | {**_CLEAN, "left in the temporary folder": []},
            killed_watch,
        ),
        row(
            "kill -9 of serve",
            "with four jobs, one of them damaged and with a hostile name; then SIGTERM",
            {"jobs": ["done"] * 4, "files stored under their ids": True, "exit": frozenset({143, -15}), "tracebacks": 0}
            | _QUIET,
            killed_serve,
        ),
        *(
            row(
                f"{name} during extract",
                "then run again",
                {"exit": code, "seconds": range(31), "orphans": 0, "tracebacks": 0, "kept": True, **_SAME},
                stopped,
                signs,
            )
            for name, code, signs in (
                ("SIGTERM", 143, (signal.SIGTERM,)),
                ("Ctrl-C", 130, (signal.SIGINT,)),
                ("Ctrl-C twice", 130, (signal.SIGINT, signal.SIGINT)),
            )
        ),
        row(
            "disk full: crops",
            "no file over 40 kB, PNG crops",
            {**_FULL, "afterwards": _ALL_OK},
            full_disk_extract,
            40,
            "png",
        ),
        row(
            "disk full: ledger",
            "no file over 20 kB, JPEG crops",
            {**_FULL, "afterwards": _ALL_OK},
            full_disk_extract,
            20,
            "jpeg",
        ),
        row(
            "disk full: report",
            "no file over 24 kB",
            {**_FULL, "afterwards": 12, "whole reports": "12 of 12"},
            full_disk_infer,
            24,
        ),
        row("disk full: model file", "no file over 100 kB", _FULL, full_disk_train, 100),
        row("disk full: checkpoint", "no file over 7 MB", _FULL, full_disk_train, 7000),
        *(
            row(
                name,
                fault,
                {"exit": 0, "same scores and id as usual": True, "tracebacks": 0, **_QUIET},
                odd_environment,
                env,
                clock,
            )
            for name, (fault, env, clock) in ENVIRONMENTS.items()
        ),
    ]
