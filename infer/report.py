"""Verdicts on disk and on the terminal."""

import csv
import json
from pathlib import Path
from types import TracebackType
from typing import Any

from dfpipe.files import as_cell, atomic_file, disk_errors
from dfpipe.types import Verdict, VerdictKind

JSONL, CSV = "verdicts.jsonl", "verdicts.csv"
DECIMALS = 4  # of probabilities and times: more would claim a precision that is not there
_CSV_FIELDS = ("path", "state", "verdict", "p_fake", "reason", "people", "frames_with_face", "model")


def to_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the plain values of one line of verdicts.jsonl."""
    return {
        "path": verdict.path,
        "state": str(verdict.state),
        "verdict": str(verdict.verdict),
        "p_fake": _rounded(verdict.p_fake),
        "threshold": verdict.threshold,
        "band": list(verdict.band),
        "reason": verdict.reason,
        "frames": {
            "wanted": verdict.frames_wanted,
            "decoded": verdict.frames_decoded,
            "with_face": verdict.frames_with_face,
        },
        "people": [
            {
                "track": p.track,
                "verdict": str(p.verdict),
                "p_fake": _rounded(p.p_fake),
                "frames": p.frames,
                "start_s": _rounded(p.start_s),
                "end_s": _rounded(p.end_s),
            }
            for p in verdict.people
        ],
        "segments": [
            {
                "track": s.track,
                "start_s": _rounded(s.start_s),
                "end_s": _rounded(s.end_s),
                "p_fake": _rounded(s.p_fake),
            }
            for s in verdict.segments
        ],
        "scores": [
            {"frame": s.frame_index, "time_s": _rounded(s.time_s), "track": s.track, "p_fake": _rounded(s.p_fake)}
            for s in verdict.scores
        ],
        "model": {"name": verdict.model_name, "sha256": verdict.model_sha256},
        "sha256": verdict.media_sha256,
        "seconds": verdict.seconds,
    }


class VerdictLog:
    """verdicts.jsonl and verdicts.csv of one folder: one line per input, the latest verdict of each.

    Lines are appended as they come, so that an interrupted run loses nothing; on leaving, both files are put in order.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "VerdictLog":
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / JSONL
            if path.is_file():
                for text in path.read_text(encoding="utf-8").splitlines():
                    line = _parsed(text)
                    if line:
                        self._lines[line["path"]] = line
            self._file = path.open("a", encoding="utf-8")
        return self

    def add(self, verdict: Verdict) -> None:
        """Writes one verdict down at once."""
        line = to_json(verdict)
        self._lines.pop(verdict.path, None)
        self._lines[verdict.path] = line
        with disk_errors(self._folder):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        with atomic_file(self._folder / JSONL) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in self._lines.values()), encoding="utf-8")
        with atomic_file(self._folder / CSV) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _CSV_FIELDS)
            writer.writeheader()
            writer.writerows(_csv_row(line) for line in self._lines.values())


def terminal_line(verdict: Verdict) -> str:
    """One verdict for reading: answer, p_fake, file, reason."""
    p_fake = "   - " if verdict.p_fake is None else f"{verdict.p_fake:5.2f}"
    state = f"[{verdict.state}] " if verdict.verdict is VerdictKind.ERROR else ""
    return f"{verdict.verdict:<9} {p_fake}  {printable(verdict.path)}  {state}{printable(verdict.reason)}"


def printable(text: str) -> str:
    """Text without the control characters by which a file name could rewrite the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)


def _parsed(text: str) -> dict[str, Any] | None:
    """A line of an earlier run; None for one that was cut off when that run was killed."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("path"), str) else None


def _csv_row(line: dict[str, Any]) -> dict[str, Any]:
    row = {
        **{field: line.get(field) for field in _CSV_FIELDS},
        "people": len(line.get("people", [])),
        "frames_with_face": line.get("frames", {}).get("with_face"),
        "model": line.get("model", {}).get("name"),
    }
    return {key: _harmless(value) for key, value in row.items()}


def _harmless(value: Any) -> Any:
    # Names that are no valid UTF-8 cannot be written as they are.
    return as_cell(value.encode(errors="replace").decode() if isinstance(value, str) else value)
