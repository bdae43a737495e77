"""The bad inputs, all at once through `dfpipe infer` and `dfpipe extract`, and one by one through the readers."""

import csv
import functools
import html.parser
import json
import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from badinputs import ARCHIVES, CONTENTS, NAMES, SPECIAL, Input, playlist_inputs
from badmedia import clip, playlists
from bench import DFPIPE, Facts, Row, Run, Skip, skip_unless_linux, temporaries

from dfpipe.names import as_text
from dfpipe.preprocess.manifest import read_inputs, read_manifest

SECRET = b"canary-5f1c-of-a-file-that-nobody-named"
FRAMES = 4
VERDICT_OF = {"no_face": {"NO_FACE"}} | {key: {"FAKE", "REAL", "UNCERTAIN"} for key in ("ok", "partial")}
SAME_BOX_PX = 14  # how far a box may lie from that of the same face in an upright file


class Listener:
    """A server on this machine that only counts who comes."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.visits = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()

    def close(self) -> None:
        """Stops listening."""
        self._socket.close()


@dataclass(frozen=True)
class InferRun:
    """What `dfpipe infer` made of all inputs, in one run."""

    folder: Path  # of the inputs
    out: Path
    code: int | str
    printed: str
    lines: Mapping[str, Any]  # path from the folder -> line of verdicts.jsonl
    orphans: int
    litter: list[str]
    visits: int  # to the listener
    opened: list[str] | None  # lines of strace that open what no input may lead to; None without strace


class InputRuns:
    """Runs each of the three at most once, when somebody asks.

    Args:
        root: An empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._locks = {name: threading.Lock() for name in ("inputs", "infer", "extract", "costs")}
        self._done: dict[str, Any] = {}
        self.secret = root / "outside" / "secret.mp4"

    def _once(self, name: str, run: Callable[[], Any]) -> Any:
        with self._locks[name]:
            if name not in self._done:
                self._done[name] = run()
            return self._done[name]

    # ---- what there is -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def table(self) -> dict[str, Input]:
        """All inputs by the name of their row."""
        return {**CONTENTS, **NAMES, **SPECIAL, **ARCHIVES, **self.playlists}

    @functools.cached_property
    def playlists(self) -> dict[str, Input]:
        """Those that name other files."""
        return playlist_inputs(lambda: playlists(str(self.secret), f"http://127.0.0.1:{self.listener.port}/"))

    @functools.cached_property
    def listener(self) -> Listener:
        """Whom no input may lead to."""
        return Listener()

    def made(self) -> Path:
        """The folder with all inputs."""
        return Path(self._once("inputs", self._make))

    def _make(self) -> Path:
        self.secret.parent.mkdir(parents=True)
        self.secret.write_bytes(clip() + SECRET)
        folder = self.root / "in"
        folder.mkdir()
        for given in self.table.values():
            try:
                given.make(folder / given.name)
            except OSError as error:  # as on file systems that only take UTF-8
                print(f"{given.name!r} cannot be made here: {error}", file=sys.stderr)
        return folder

    # ---- dfpipe infer ------------------------------------------------------------------------------------------------

    def infer(self) -> InferRun:
        """All inputs in one run, from within their folder, so that no path shields a name like concat:x.mp4."""
        return self._once("infer", self._infer)  # type: ignore[no-any-return]

    def _infer(self) -> InferRun:
        skip_unless_linux()
        folder, out, here = self.made(), self.root / "verdicts", self.root / "infer"
        trace = here / "trace"
        here.mkdir()
        strace = shutil.which("strace")
        watch = (
            [strace, "-f", "--seccomp-bpf", "-qq", "-s", "4096", "-e", "trace=open,openat,openat2,connect"]
            if strace
            else []
        )
        watch += ["-e", "signal=none", "-o", str(trace)] if strace else []
        words = ("infer", ".", "--out", str(out), "--frames", str(FRAMES), "--device", "cpu", "--workers", "2")
        run = Run(words, here, command=(*watch, *DFPIPE), cwd=folder)
        code = run.exit(300)
        lines = {}
        table = out / "verdicts.jsonl"
        for text in table.read_text().splitlines() if table.is_file() else []:
            line = json.loads(text)
            lines[as_text(line["path"])] = line
        opened = suspicious(trace.read_text(errors="replace"), str(self.secret)) if strace else None
        return InferRun(
            folder, out, code, run.printed, lines, run.orphans(), run.litter(), self.listener.visits, opened
        )

    # ---- dfpipe extract ----------------------------------------------------------------------------------------------

    def extract(self) -> tuple[Run, int | str, Path]:
        """Those that extraction lists, in folders named real and fake."""
        return self._once("extract", self._extract)  # type: ignore[no-any-return]

    def _extract(self) -> tuple[Run, int | str, Path]:
        skip_unless_linux()
        folder, root, out = self.made(), self.root / "labelled", self.root / "faces"
        for given in self.table.values():
            if given.kind and (folder / given.name).exists():
                label = "fake" if given.name == "sound.png" else "real"
                place = root / given.kind / label / given.name
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(folder / given.name, place)
        (root / "videos" / "fake").mkdir()
        os.link(folder / "sound.mp4", root / "videos" / "fake" / "tampered.mp4")
        words = ("extract", "--videos", str(root / "videos"), "--images", str(root / "images"), "--out", str(out))
        words += ("--stills", "detect", "--workers", "2", "--set", f"preprocess.faces.frames={FRAMES}")
        run = Run(words, self.root / "extract")
        return run, run.exit(300), out

    def extracted(self) -> dict[str, dict[str, Any]]:
        """File name to its row of inputs.parquet."""
        _, _, out = self.extract()
        return {row["name"].partition("/")[2]: row for row in read_inputs(out)}

    # ---- the readers -------------------------------------------------------------------------------------------------

    def costs(self) -> dict[str, tuple[float, float]]:
        """File name to what reading it takes: s, and MB more than before."""
        return self._once("costs", self._costs)  # type: ignore[no-any-return]

    def _costs(self) -> dict[str, tuple[float, float]]:
        skip_unless_linux()
        script = Path(__file__).with_name("costs.py")
        run = Run((str(script),), self.root / "costs", command=(sys.executable,), cwd=self.made())
        if (code := run.exit(200)) != 0:
            raise RuntimeError(f"measuring ended with {code}: {run.printed[-2000:]}")
        found = (json.loads(line) for line in (run.folder / "stdout").read_text().splitlines())
        return {name: (seconds, megabytes) for name, seconds, megabytes in found}


def suspicious(trace: str, secret: str) -> list[str]:
    """The calls that opened the secret file or a connection to the internet protocol."""
    return [
        line
        for line in trace.splitlines()
        if ("open" in line and secret in line) or ("connect(" in line and "AF_INET" in line)
    ]


# ---- rows ------------------------------------------------------------------------------------------------------------


def input_rows(runs: InputRuns) -> list[Row]:
    """A row for each input."""
    return [
        Row(
            name=name,
            fault=f"input {os.fsencode(given.name).decode(errors='backslashreplace')!r}",
            expected=expected_of(given),
            observe=lambda _, given=given: observed_of(runs, given),  # type: ignore[misc]
            late=True,
        )
        for name, given in runs.table.items()
    ]


def expected_of(given: Input) -> Facts:
    """What must be seen of an input."""
    if given.passed_over:
        return {"lines": 0}
    facts: Facts = {"lines": 1, "infer": given.states, "verdict": "as its state"}
    if given.reason.pattern:
        facts["reason"] = given.reason
    if given.as_upright:
        facts["box"] = "that of the upright face"
    if given.kind:
        facts["extract"] = given.states
    if not given.entry and not given.only_infer:
        facts["seconds"] = range(given.seconds)
        facts["MB"] = range(given.megabytes)
    return facts


def observed_of(runs: InputRuns, given: Input) -> Facts:
    """What was seen of an input."""
    done = runs.infer()
    if not os.path.lexists(done.folder / given.name):
        raise Skip("this file system does not take such a name")
    key = as_text(f"{given.name}/{given.entry}" if given.entry else given.name)
    if given.passed_over:
        return {"lines": sum(path == key or path.startswith(f"{key}/") for path in done.lines)}
    line = done.lines.get(key)
    if line is None:
        return {"lines": 0}
    facts: Facts = {
        "lines": 1,
        "infer": line["state"],
        "verdict": "as its state" if fits(line) else f"{line['verdict']} with p_fake {line['p_fake']}",
        "reason": line["reason"],
    }
    if given.as_upright:
        facts["box"] = where_box_lies(line, done.lines.get(given.as_upright))
    if given.kind:
        facts["extract"] = runs.extracted().get(as_text(given.name), {}).get("state", "no row")
    if not given.entry and not given.only_infer:
        cost = runs.costs().get(as_text(given.name))
        facts |= {"seconds": int(cost[0]), "MB": int(cost[1])} if cost else {"seconds": "died", "MB": "died"}
    return facts


def fits(line: Mapping[str, Any]) -> bool:
    """Whether a verdict is one that its state allows, with a number if and only if a face was scored."""
    scored = line["verdict"] in VERDICT_OF["ok"]
    return line["verdict"] in VERDICT_OF.get(line["state"], {"ERROR"}) and (line["p_fake"] is not None) == scored


def where_box_lies(line: Mapping[str, Any], other: Mapping[str, Any] | None) -> str:
    """Whether the first face lies where it does in another file."""
    if other is None or not line["scores"] or not other["scores"]:
        return "no face to compare"
    here, there = line["scores"][0]["box"], other["scores"][0]["box"]
    near = all(abs(a - b) <= SAME_BOX_PX for a, b in zip(here, there, strict=True))
    return "that of the upright face" if near else f"{here} instead of {there}"


def run_rows(runs: InputRuns) -> list[Row]:
    """What must hold of the two runs as a whole."""
    nothing = {"orphans": 0, "temporary files": [], "left in the temporary folder": [], "tracebacks": 0}
    return [
        Row(
            "all inputs judged in one run",
            "the inputs above in one folder",
            {"exit": 3, "lines without an input": [], "inputs without a line": [], **nothing},
            lambda _: _of_infer(runs),
        ),
        Row(
            "all inputs extracted in one run",
            "the inputs above in folders real and fake",
            {"exit": 3, "rows": re.compile(r"^(\d+) of \1$"), "crops that are not 256 x 256 RGB": 0, **nothing},
            lambda _: _of_extract(runs),
        ),
        Row(
            "playlists open nothing",
            "ffconcat, HLS, DASH, SDP, M3U and data references that name a file and a server of this machine",
            {"connections": 0, "files opened (strace)": []},
            lambda _: _opened(runs),
            late=True,
        ),
        Row(
            "no content of other files in what is written",
            "links, playlists and names that lead to /etc/passwd and to a secret file",
            {"leaks": []},
            lambda _: _leaks(runs),
            late=True,
        ),
        Row(
            "reports escape names",
            "names that are HTML, templates and scripts",
            {"foreign elements": [], "pages": range(1, 10_000)},
            lambda _: _pages(runs),
            late=True,
        ),
        Row(
            "tables hold no formulas",
            "a name that is a formula",
            {"formulas": []},
            lambda _: _formulas(runs),
            late=True,
        ),
        Row(
            "the terminal gets no control characters",
            "names with escape sequences",
            {"control characters": []},
            lambda _: _controls(runs),
            late=True,
        ),
    ]


def _of_infer(runs: InputRuns) -> Facts:
    done = runs.infer()
    named = [
        as_text(f"{i.name}/{i.entry}" if i.entry else i.name)
        for i in runs.table.values()
        if not i.passed_over and os.path.lexists(done.folder / i.name)
    ]
    return {
        "exit": done.code,
        "lines without an input": sorted(set(done.lines) - set(named)),
        "inputs without a line": sorted(set(named) - set(done.lines)),
        "orphans": done.orphans,
        "temporary files": temporaries(done.out),
        "left in the temporary folder": done.litter,
        "tracebacks": done.printed.count("Traceback"),
    }


def _of_extract(runs: InputRuns) -> Facts:
    from PIL import Image as PillowImage

    run, code, out = runs.extract()
    inputs = read_inputs(out)
    listed = [path for path in (runs.root / "labelled").rglob("*") if path.is_file()]
    manifest = read_manifest(out)
    wrong = 0
    for row in range(len(manifest)):
        with PillowImage.open(manifest.path(row)) as crop:
            wrong += crop.size != (256, 256) or crop.mode != "RGB"
    return {
        "exit": code,
        "rows": f"{len(inputs)} of {len(listed)}",
        "crops that are not 256 x 256 RGB": wrong,
        "orphans": run.orphans(),
        "temporary files": temporaries(out),
        "left in the temporary folder": run.litter(),
        "tracebacks": run.printed.count("Traceback"),
    }


def _opened(runs: InputRuns) -> Facts:
    done = runs.infer()
    facts: Facts = {"connections": done.visits}
    facts["files opened (strace)"] = "strace is not here" if done.opened is None else done.opened
    if done.opened is None and not done.visits:
        raise Skip("no connection came, but without strace nobody sees which files are opened")
    return facts


def _leaks(runs: InputRuns) -> Facts:
    done = runs.infer()
    secrets = [SECRET, Path("/etc/passwd").read_bytes().splitlines()[0]]
    written = [path for path in done.out.rglob("*") if path.is_file()]
    found = [str(path.relative_to(done.out)) for path in written if any(s in path.read_bytes() for s in secrets)]
    printed = done.printed.encode(errors="surrogateescape")
    return {"leaks": found + ["printed"] * any(secret in printed for secret in secrets)}


class _Elements(html.parser.HTMLParser):
    """Notes what a page would run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Looks at one element."""
        for name, value in attrs:
            inside = (value or "").startswith(("data:image/", "#")) or not re.match(r"[a-z]+:|/", value or "")
            if name.startswith("on") or (name in ("src", "href") and not inside) or value == "x":
                self.foreign.append(f"<{tag} {name}={value}>")


def _pages(runs: InputRuns) -> Facts:
    done = runs.infer()
    foreign, pages = [], list(done.out.glob("*/report.html"))
    for page in pages:
        elements = _Elements()
        text = page.read_text(encoding="utf-8")
        elements.feed(text)
        foreign += elements.foreign
        if "49.jpg" in text or "alert(1)>" in text:
            foreign.append(page.parent.name)
    return {"foreign elements": foreign, "pages": len(pages)}


def _formulas(runs: InputRuns) -> Facts:
    with (runs.infer().out / "verdicts.csv").open(newline="", encoding="utf-8") as table:
        cells = [cell for row in csv.reader(table) for cell in row]
    return {"formulas": [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]}


def _controls(runs: InputRuns) -> Facts:
    run, _, _ = runs.extract()
    lines = [line for text in (runs.infer().printed, run.printed) for line in re.split(r"[\r\n]", text)]
    return {"control characters": [line for line in lines if re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", line)]}
