import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dfpipe.infer.report import VerdictLog, printable, terminal_line, to_json
from dfpipe.types import FrameScore, PersonVerdict, Segment, State, Verdict, VerdictKind


def verdict(path: str = "a.mp4", **change: Any) -> Verdict:
    person = PersonVerdict(0, VerdictKind.FAKE, 0.93, 31, 0.0, 9.9)
    fields: dict[str, Any] = {
        "path": path,
        "state": State.OK,
        "verdict": VerdictKind.FAKE,
        "p_fake": 0.93,
        "reason": "the one person seen looks manipulated",
        "threshold": 0.5,
        "band": (0.4, 0.6),
        "frames_wanted": 32,
        "frames_decoded": 32,
        "frames_with_face": 31,
        "people": (person,),
        "segments": (Segment(0, 1.0, 2.0, 0.9),),
        "scores": (FrameScore(3, 0.1, 0, 0.93),),
        "model_name": "m",
        "model_sha256": "ab",
        "media_sha256": "cd",
        "seconds": 2.1,
    }
    return Verdict(**{**fields, **change})


def error(path: str) -> Verdict:
    return verdict(
        path,
        state=State.CORRUPT,
        verdict=VerdictKind.ERROR,
        p_fake=None,
        reason="broken",
        people=(),
        segments=(),
        scores=(),
    )


def test_json_holds_the_contract() -> None:
    line = to_json(verdict())
    wanted = {
        "path",
        "state",
        "verdict",
        "p_fake",
        "threshold",
        "band",
        "reason",
        "frames",
        "people",
        "segments",
        "model",
    }
    assert wanted | {"seconds"} <= set(line)
    assert line["frames"] == {"wanted": 32, "decoded": 32, "with_face": 31}
    assert line["people"][0] == {
        "track": 0,
        "verdict": "FAKE",
        "p_fake": 0.93,
        "frames": 31,
        "start_s": 0.0,
        "end_s": 9.9,
    }
    assert json.loads(json.dumps(line, allow_nan=False)) == line
    assert to_json(error("b"))["p_fake"] is None


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / "verdicts.jsonl").read_text().splitlines()]


def test_one_line_per_input_the_latest_wins(tmp_path: Path) -> None:
    with VerdictLog(tmp_path) as log:
        log.add(verdict("a"))
        log.add(verdict("b"))
    with VerdictLog(tmp_path) as log:
        log.add(error("a"))
    assert [(line["path"], line["verdict"]) for line in lines(tmp_path)] == [("b", "FAKE"), ("a", "ERROR")]
    rows = list(csv.DictReader((tmp_path / "verdicts.csv").open()))
    assert [(row["path"], row["p_fake"], row["people"]) for row in rows] == [("b", "0.93", "1"), ("a", "", "0")]


def test_what_was_judged_before_a_kill_is_there(tmp_path: Path) -> None:
    log = VerdictLog(tmp_path).__enter__()
    log.add(verdict("a"))
    assert [line["path"] for line in lines(tmp_path)] == ["a"]
    with (tmp_path / "verdicts.jsonl").open("a") as file:
        file.write('{"path": "b", "verd')  # the line on which the power went
    with VerdictLog(tmp_path) as again:
        again.add(verdict("c"))
    assert [line["path"] for line in lines(tmp_path)] == ["a", "c"]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_spreadsheets_run_nothing(tmp_path: Path, name: str) -> None:
    with VerdictLog(tmp_path) as log:
        log.add(verdict(name))
    (row,) = csv.DictReader((tmp_path / "verdicts.csv").open(newline=""))
    assert row["path"].startswith("'")


def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = b"caf\xe9.mp4".decode(errors="surrogateescape")
    with VerdictLog(tmp_path) as log:
        log.add(verdict(name))
    assert lines(tmp_path)[0]["path"] == name
    assert "caf" in (tmp_path / "verdicts.csv").read_text()


def test_a_name_cannot_rewrite_the_terminal() -> None:
    line = terminal_line(verdict("\x1b[2Ja\nb.mp4"))
    assert "\x1b" not in line
    assert "\n" not in line
    assert line.startswith("FAKE")
    assert "0.93" in line
    assert printable("ünï 视频") == "ünï 视频"


def test_no_number_where_there_is_none() -> None:
    assert terminal_line(error("x.mp4")).split()[:2] == ["ERROR", "-"]
