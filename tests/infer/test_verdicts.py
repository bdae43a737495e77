import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dfpipe.errors import UsageError
from dfpipe.infer.inputs import Upload
from dfpipe.infer.verdicts import Facts, VerdictFolder, folder_name, to_json
from dfpipe.types import Verdict

FACTS = Facts(10, 20)


def add(
    verdict: Callable[..., Verdict], folder: VerdictFolder, path: str, facts: Facts | None = FACTS, **change: Any
) -> None:
    folder.add(Upload(Path(path)), facts, to_json(verdict(path, **change)))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / "verdicts.jsonl").read_text().splitlines()]


def test_json_holds_the_contract(verdict: Callable[..., Verdict]) -> None:
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
    assert wanted | {"seconds", "rule", "confidence", "cautions", "media", "sha256"} <= set(line)
    assert line["frames"] == {"wanted": 32, "decoded": 32, "with_face": 31}
    person = {"track": 0, "verdict": "FAKE", "p_fake": 0.93, "frames": 31, "start_s": 0.0, "end_s": 9.9}
    assert line["people"] == [person]
    assert line["rule"] == {
        "aggregate": "mean_logit",
        "parameters": {"logit_limit": 16.0},
        "min_frames": 4,
        "frames": 32,
        "real_bits_per_pixel": 0.015,
    }
    assert line["scores"][0] == {"frame": 3, "time_s": 0.1, "track": 0, "p_fake": 0.93, "box": [1, 2, 30.0, 40]}
    assert line["media"]["codec"] == "h264"
    assert json.loads(json.dumps(line, allow_nan=False)) == line


def test_no_number_where_there_is_none(error: Callable[..., Verdict]) -> None:
    line = to_json(error("b"))
    assert (line["p_fake"], line["confidence"], line["media"]) == (None, None, None)


def test_one_line_per_input_the_latest_wins(
    verdict: Callable[..., Verdict], error: Callable[..., Verdict], tmp_path: Path
) -> None:
    with VerdictFolder(tmp_path, "s") as folder:
        add(verdict, folder, "b")
        add(verdict, folder, "a")
    with VerdictFolder(tmp_path, "s") as folder:
        folder.add(Upload(Path("a")), FACTS, to_json(error("a")))
    assert [(line["path"], line["verdict"]) for line in lines(tmp_path)] == [("a", "ERROR"), ("b", "FAKE")]
    rows = list(csv.DictReader((tmp_path / "verdicts.csv").open()))
    assert [(row["path"], row["p_fake"], row["people"]) for row in rows] == [("a", "", "0"), ("b", "0.93", "1")]


def test_what_was_judged_before_a_kill_is_there(verdict: Callable[..., Verdict], tmp_path: Path) -> None:
    folder = VerdictFolder(tmp_path, "s").__enter__()
    add(verdict, folder, "a")
    assert [line["path"] for line in lines(tmp_path)] == ["a"]
    with (tmp_path / "verdicts.jsonl").open("a") as file:
        file.write('{"path": "b", "verd')  # the line on which the power went
    folder._stack.close()  # as a kill would let go of the lock, without putting anything in order
    with VerdictFolder(tmp_path, "s") as again:
        assert [line["path"] for line in lines(tmp_path)] == ["a"]
        assert again.judged(Upload(Path("a")), FACTS) is not None
        assert again.judged(Upload(Path("b")), FACTS) is None


def test_judged_again_when_file_settings_or_report_changed(verdict: Callable[..., Verdict], tmp_path: Path) -> None:
    upload = Upload(Path("a"))
    with VerdictFolder(tmp_path, "s") as folder:
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / "report.html").touch()
        folder.add(upload, FACTS, {**to_json(verdict("a")), "report": "r/report.html"})
        assert folder.judged(upload, FACTS) is not None
        assert folder.judged(upload, Facts(11, 20)) is None
        assert folder.judged(upload, Facts(10, 21)) is None
        assert folder.judged(upload, None) is None
        assert folder.same_content(10, "cd") is not None
    with VerdictFolder(tmp_path, "other settings") as folder:
        assert folder.judged(upload, FACTS) is None
        assert folder.same_content(10, "cd") is None
    (tmp_path / "r" / "report.html").unlink()
    with VerdictFolder(tmp_path, "s") as folder:
        assert folder.judged(upload, FACTS) is None
        assert folder.same_content(10, "cd") is None


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with VerdictFolder(tmp_path, "s"), pytest.raises(UsageError, match="another run"), VerdictFolder(tmp_path, "s"):
        pass


def test_verdicts_of_unknown_origin_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "verdicts.jsonl").write_text("precious")
    with pytest.raises(UsageError, match="overwritten"), VerdictFolder(tmp_path, "s"):
        pass
    assert (tmp_path / "verdicts.jsonl").read_text() == "precious"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_spreadsheets_run_nothing(verdict: Callable[..., Verdict], tmp_path: Path, name: str) -> None:
    with VerdictFolder(tmp_path, "s") as folder:
        add(verdict, folder, name)
    (row,) = csv.DictReader((tmp_path / "verdicts.csv").open(newline=""))
    assert row["path"].startswith("'")


def test_names_that_are_no_text(verdict: Callable[..., Verdict], tmp_path: Path) -> None:
    name = b"caf\xe9.mp4".decode(errors="surrogateescape")
    with VerdictFolder(tmp_path, "s") as folder:
        add(verdict, folder, name)
        assert folder.judged(Upload(Path(name)), FACTS) is not None
    assert lines(tmp_path)[0]["path"] == name
    assert "caf" in (tmp_path / "verdicts.csv").read_text()


def test_folder_names_are_safe_and_tell_inputs_apart() -> None:
    names = {
        folder_name(path, sha) for path in ("a/x.mp4", "b/x.mp4", "../../etc/passwd", "é\n/…") for sha in ("1", "2")
    }
    assert len(names) == 8
    for name in names:
        assert name.isascii()
        assert "/" not in name
        assert not name.startswith((".", "-", "_"))
    assert folder_name("clip one.mp4", "1").startswith("clip_one-")
