"""Verdicts on disk: a folder with one line per input, from which a run goes on, and what belongs to each line."""

import csv
import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from os.path import isfile
from pathlib import Path
from types import TracebackType
from typing import Any

from dfpipe import __version__
from dfpipe.errors import ResourceError, UsageError
from dfpipe.files import atomic_file, disk_errors, locked, stamp, sweep
from dfpipe.infer.inputs import UNKNOWN, Upload
from dfpipe.ledger import LEDGER, Ledger
from dfpipe.names import as_cell, as_text
from dfpipe.outbox import Outbox
from dfpipe.store import Url, get
from dfpipe.types import FaceBox, FrameScore, PersonVerdict, Segment, State, Verdict, VideoInfo

JSONL, CSV = "verdicts.jsonl", "verdicts.csv"
DECIMALS = 4  # of probabilities and times: more would claim a precision that is not there
STEM_CHARS = 40  # of a file's name in the name of its folder
_CSV_FIELDS = (
    *("path", "state", "verdict", "p_fake", "confidence", "reason", "cautions", "people", "frames_with_face"),
    *("sha256", "model", "report"),
)

Line = dict[str, Any]


def to_json(verdict: Verdict) -> Line:
    """A verdict as the plain values of one line of verdicts.jsonl."""
    return {
        "path": verdict.path,
        "state": str(verdict.state),
        "verdict": str(verdict.verdict),
        "p_fake": _rounded(verdict.p_fake),
        "threshold": verdict.threshold,
        "band": list(verdict.band),
        "reason": verdict.reason,
        "confidence": _rounded(verdict.confidence),
        "how_sure": verdict.how_sure,
        "cautions": list(verdict.cautions),
        "frames": {
            "wanted": verdict.frames_wanted,
            "decoded": verdict.frames_decoded,
            "with_face": verdict.frames_with_face,
        },
        "people": [_person(p) for p in verdict.people],
        "segments": [_segment(s) for s in verdict.segments],
        "scores": [_score(s) for s in verdict.scores],
        "rule": asdict(verdict.rule),
        "model": {"name": verdict.model_name, "sha256": verdict.model_sha256},
        "media": _media(verdict),
        "sha256": verdict.media_sha256,
        "seconds": verdict.seconds,
        "dfpipe": __version__,
        "judged_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _person(person: PersonVerdict) -> Line:
    return {
        "track": person.track,
        "verdict": str(person.verdict),
        "p_fake": _rounded(person.p_fake),
        "frames": person.frames,
        "start_s": _rounded(person.start_s),
        "end_s": _rounded(person.end_s),
    }


def _segment(segment: Segment) -> Line:
    return {
        "track": segment.track,
        "start_s": _rounded(segment.start_s),
        "end_s": _rounded(segment.end_s),
        "p_fake": _rounded(segment.p_fake),
    }


def _score(score: FrameScore) -> Line:
    return {
        "frame": score.frame_index,
        "time_s": _rounded(score.time_s),
        "track": score.track,
        "p_fake": _rounded(score.p_fake),
        "box": _box(score.box),
    }


def _box(box: FaceBox | None) -> list[float] | None:
    return None if box is None else [round(side, 1) for side in (box.x1, box.y1, box.x2, box.y2)]


def _media(verdict: Verdict) -> Line | None:
    info: VideoInfo | None = verdict.media
    if info is None:
        return None
    return {
        "kind": verdict.kind,
        "bytes": verdict.media_bytes,
        "width": info.width,
        "height": info.height,
        "fps": _rounded(info.fps),
        "duration_s": _rounded(info.duration_s),
        "frames": info.frame_count,
        "codec": info.codec,
        "rotation": info.rotation,
        "reader": info.reader,
    }


@dataclass(frozen=True)
class Facts:
    """How a file looked when it was taken: what tells whether it is still the one that was judged."""

    size: int  # bytes
    modified: int | str  # ns, or the mark of a store

    @classmethod
    def of(cls, upload: Upload) -> "Facts | None":
        """None where file system or store give none; such a file is always tried again."""
        if upload.origin is not None:
            return cls(upload.origin.size, upload.origin.stamp) if upload.origin.stamp != UNKNOWN else None
        try:
            stat = upload.path.stat()
        except OSError:
            return None
        return cls(stat.st_size, stat.st_mtime_ns)


class VerdictFolder:
    """The output of `dfpipe infer`: a ledger, verdicts.jsonl, verdicts.csv, and a folder with a report for each input.

    A verdict counts once it stands in the ledger, which is written after its report. verdicts.jsonl is appended as verdicts
    come and written anew from the ledger at the beginning and the end, like verdicts.csv.

    Args:
        folder: Held by this run until it is left.
        settings: Whatever shapes verdicts, as one text: what was judged with other settings is judged anew.
        url: A place in a store where all of it is to be, and may be of an earlier run; `folder` is then empty at first.

    Raises:
        UsageError: Another run holds it, it cannot be written, or it holds verdicts that are not in a ledger.
        ResourceError: The store does not give what is there, or takes nothing.
    """

    def __init__(self, folder: Path, settings: str, url: Url | None = None) -> None:
        self.folder = folder
        self._url = url
        self._outbox: Outbox | None = None
        self._settings = hashlib.sha256(settings.encode()).hexdigest()[:16]

    def __enter__(self) -> "VerdictFolder":
        with ExitStack() as stack:
            stack.enter_context(locked(self.folder))
            sweep(self.folder)
            if self._url is not None and not get(self._url / LEDGER, self.folder / LEDGER):
                get(self._url / JSONL, self.folder / JSONL)
            if (self.folder / JSONL).exists() and not (self.folder / LEDGER).exists():
                lonely = (self._url or self.folder) / JSONL
                raise UsageError(f"{lonely} has no {LEDGER} beside it and would be overwritten: choose another --out")
            self._ledger = Ledger(self.folder / LEDGER)
            stack.callback(self._ledger.close)
            self._ledger.check_kind("verdict", self._url or self.folder)
            self._prints = self._ledger.fingerprints()
            self._by_content = {
                content: key for key, print_ in self._prints.items() if (content := self._content(print_)) is not None
            }
            self._sizes = {size for size, _ in self._by_content}
            self._write_tables()
            if self._url is not None:
                self._outbox = stack.enter_context(Outbox(self._url, self.folder, self._ledger, (JSONL, CSV)))
            with disk_errors(self.folder):
                self._file = (self.folder / JSONL).open("a", encoding="utf-8")
            stack.callback(self._file.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            self._write_tables()
            if self._outbox is not None and not isinstance(error, ResourceError):
                self._outbox.publish()

    def line(self, key: str) -> Line | None:
        """The verdict of an input."""
        return self._ledger.row(key)

    def judged(self, upload: Upload, facts: Facts | None) -> State | None:
        """How an earlier run with the same settings ended on the same unchanged file; None if there was none."""
        key = as_text(str(upload))
        if facts is None or not self._prints.get(key, "").startswith(
            f"{self._settings}|{facts.size}|{facts.modified}|"
        ):
            return None
        return self._state(key)

    def _state(self, key: str) -> State | None:
        """How an input ended, if its report is still there."""
        state, report = self._ledger.values(key, "state", "report") or (None, None)
        there = not report or self._outbox is not None or isfile(f"{self.folder}/{report}")
        return State(state) if state is not None and there else None

    def may_be_known(self, facts: Facts) -> bool:
        """Whether it is worth hashing a file: whether any of its size was judged."""
        return facts.size in self._sizes

    def same_content(self, size: int, sha256: str) -> Line | None:
        """The verdict on a file with the same bytes, whatever its name."""
        key = self._by_content.get((size, sha256))
        return self.line(key) if key is not None and self._state(key) is not None else None

    def add(self, upload: Upload, facts: Facts | None, line: Line) -> None:
        """Writes a verdict down; from here on it counts.

        Raises:
            ResourceError: The disk is full.
        """
        key = as_text(str(upload))
        print_ = f"{self._settings}|{facts.size}|{facts.modified}|{line['sha256']}" if facts is not None else ""
        self._ledger.record(key, print_, line)
        self._prints[key] = print_
        if line["sha256"] and facts is not None and not upload.member:
            self._by_content.setdefault((facts.size, line["sha256"]), key)
            self._sizes.add(facts.size)
        with disk_errors(self.folder):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def send(self, name: str) -> None:
        """Sends the folder of an input whose verdict is written down to the store, if there is one.

        Raises:
            ResourceError: The store does not take it, or did not take earlier ones.
        """
        if self._outbox is not None:
            self._outbox.send(self.folder / name)

    def _content(self, print_: str) -> tuple[int, str] | None:
        settings, *rest = print_.split("|")
        if settings != self._settings or len(rest) != 3 or not rest[2]:
            return None
        return int(rest[0]), rest[2]

    def _write_tables(self) -> None:
        """Writes both tables from the ledger, unless they stand as they were written and no verdict came since."""
        tables = (self.folder / JSONL, self.folder / CSV)
        if self._ledger.published == stamp(tables):
            return
        with (
            atomic_file(self.folder / JSONL) as whole,
            atomic_file(self.folder / CSV) as short,
            whole.open("w", encoding="utf-8") as jsonl,
            short.open("w", newline="", encoding="utf-8") as table,
        ):
            writer = csv.DictWriter(table, _CSV_FIELDS)
            writer.writeheader()
            for text in self._ledger.texts():
                jsonl.write(text + "\n")
                writer.writerow(_csv_row(json.loads(text)))
        self._ledger.publish(stamp(tables))


def folder_name(path: str, sha256: str) -> str:
    """The name of an input's folder: readable, and different for other names and other contents."""
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in Path(path).stem)
    digest = hashlib.sha256(f"{as_text(path)}\0{sha256}".encode()).hexdigest()
    return f"{stem[:STEM_CHARS].strip('-_') or 'input'}-{digest[:12]}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)


def _csv_row(line: Mapping[str, Any]) -> Line:
    row = {
        **{field: line.get(field) for field in _CSV_FIELDS},
        "cautions": "; ".join(line["cautions"]),
        "people": len(line["people"]),
        "frames_with_face": line["frames"]["with_face"],
        "model": line["model"]["name"],
    }
    return {key: _harmless(value) for key, value in row.items()}


def _harmless(value: Any) -> Any:
    # Names that are no valid UTF-8 cannot be written as they are.
    return as_cell(value.encode(errors="replace").decode() if isinstance(value, str) else value)
