import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dfpipe.config import InferConfig
from dfpipe.demo import clip_frames
from dfpipe.errors import ConfigError, DfpipeError, UsageError
from dfpipe.infer import judging
from dfpipe.infer.detector import Detector
from dfpipe.infer.inputs import Upload, collect
from dfpipe.infer.judging import Options, Told, judge_into
from dfpipe.types import Label

SERIAL = Options(engine="serial")


@pytest.fixture(scope="module")
def detector(model: Path) -> Detector:
    return Detector.load(model, "cpu")


@pytest.fixture
def stills(save_still: Callable[..., Path]) -> list[Path]:
    """Five different stills, cheap to judge."""
    return [save_still(f"in/{i}.png", next(clip_frames(60 + i, Label.FAKE))) for i in range(5)]


def judged(detector: Detector, paths: list[Path], out: Path, options: Options = SERIAL) -> list[Told]:
    return list(judge_into(detector, map(Upload, paths), out, options))


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (out / "verdicts.jsonl").read_text().splitlines()]


def test_every_input_gets_a_line_and_a_report(detector: Detector, stills: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no clip")
    paths = [*stills, tmp_path / "text.mp4", tmp_path / "gone.mp4"]
    told = judged(detector, paths, tmp_path / "out")
    assert [t.line["path"] for t in told] == [str(p) for p in paths]
    assert all(t.fresh for t in told)
    assert {line["path"] for line in lines(tmp_path / "out")} == set(map(str, paths))
    for line in lines(tmp_path / "out"):
        report = tmp_path / "out" / line["report"]
        assert Path(line["path"]).name in report.read_text()
        assert json.loads((report.parent / "report.json").read_text()) == line


def test_a_second_run_opens_nothing_again(
    detector: Detector, stills: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = judged(detector, stills, tmp_path / "out")
    monkeypatch.setattr("dfpipe.infer.detector.look_task", None)  # whatever calls it fails
    again = judged(detector, stills, tmp_path / "out")
    assert [t.fresh for t in again] == [False] * 5
    assert sorted(t.line["path"] for t in again) == sorted(t.line["path"] for t in first)
    assert [t.line for t in again] == [t.line for t in first]


def test_another_rule_judges_again(model: Path, detector: Detector, stills: list[Path], tmp_path: Path) -> None:
    judged(detector, stills[:1], tmp_path / "out")
    other = Detector.load(model, "cpu", InferConfig(aggregate="max"))
    (told,) = judged(other, stills[:1], tmp_path / "out")
    assert told.fresh
    assert told.line["rule"]["aggregate"] == "max"
    assert len(lines(tmp_path / "out")) == 1


def test_a_changed_file_is_judged_again(detector: Detector, stills: list[Path], tmp_path: Path) -> None:
    (before,) = judged(detector, stills[:1], tmp_path / "out")
    shutil.copyfile(stills[1], stills[0])
    (after,) = judged(detector, stills[:1], tmp_path / "out")
    assert after.fresh
    assert after.line["sha256"] != before.line["sha256"]


@pytest.mark.parametrize("engine", ["serial", "local"])
def test_the_same_bytes_are_judged_once(detector: Detector, stills: list[Path], tmp_path: Path, engine: str) -> None:
    twins = [Path(shutil.copyfile(stills[0], tmp_path / f"copy {i}.png")) for i in range(3)]
    options = Options(engine=engine, workers=2)
    told = judged(detector, [stills[0], *twins, stills[1]], tmp_path / "out", options)
    assert sum(t.fresh for t in told) == 2
    assert {t.line["path"] for t in told} == set(map(str, [stills[0], *twins, stills[1]]))
    copies = [t.line for t in told if not t.fresh]
    assert {line["same_as"] for line in copies} == {str(stills[0])}
    assert {line["p_fake"] for line in copies} == {t.line["p_fake"] for t in told if t.line["path"] == str(stills[0])}
    late = Path(shutil.copyfile(stills[1], tmp_path / "late.png"))
    (known,) = judged(detector, [late], tmp_path / "out", options)  # in a later run too
    assert (known.fresh, known.line["same_as"]) == (False, str(stills[1]))


def test_files_of_one_size_that_differ_are_both_judged(detector: Detector, tmp_path: Path) -> None:
    pair = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path, text in zip(pair, ("one text", "two text"), strict=True):
        path.write_text(text)
    told = judged(detector, pair, tmp_path / "out")
    assert [(t.fresh, t.line["verdict"]) for t in told] == [(True, "ERROR")] * 2
    assert len({t.line["sha256"] for t in told}) == 2


def test_redo(detector: Detector, stills: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no clip")
    paths = [stills[0], tmp_path / "text.mp4"]
    judged(detector, paths, tmp_path / "out")
    again = judged(detector, paths, tmp_path / "out", Options(engine="serial", redo=("unsupported",)))
    assert {t.line["path"]: t.fresh for t in again} == {str(paths[0]): False, str(paths[1]): True}
    with pytest.raises(ConfigError, match="--redo"):
        judged(detector, paths, tmp_path / "out", Options(redo=("broken",)))


def test_named_twice_is_judged_once(detector: Detector, stills: list[Path], tmp_path: Path) -> None:
    assert [t.fresh for t in judged(detector, [stills[0], stills[0]], tmp_path / "out")] == [True, False]
    assert len(lines(tmp_path / "out")) == 1


def test_own_output_is_not_judged(detector: Detector, stills: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "in" / "verdicts"
    options = Options(engine="serial", overlay=True)
    list(judge_into(detector, collect([tmp_path / "in"], skip=out).uploads, out, options))
    assert list(out.glob("*/overlay.jpg"))
    assert len(collect([tmp_path / "in"], skip=out).uploads) == 5


def test_overlay_of_a_clip(detector: Detector, clip: Path, tmp_path: Path) -> None:
    from dfpipe.preprocess.readers import open_video

    (told,) = judged(detector, [clip], tmp_path / "out", Options(engine="local", workers=1, overlay=True))
    assert told.line["overlay"] == {"file": "overlay.mp4", "note": ""}
    folder = (tmp_path / "out" / told.line["report"]).parent
    with open_video(folder / "overlay.mp4") as video:
        assert len(video.timeline.times) == 48
    assert 'href="overlay.mp4"' in (folder / "report.html").read_text()
    assert not list((tmp_path / "out").glob(".tmp*"))


def test_an_overlay_that_fails_costs_nothing_else(
    detector: Detector, stills: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dfpipe.errors import CorruptMedia

    def fail(job: Any) -> str:
        raise CorruptMedia("cannot be drawn on")

    monkeypatch.setattr(judging, "overlay_task", fail)
    (told,) = judged(detector, stills[:1], tmp_path / "out", Options(engine="serial", overlay=True))
    assert told.line["verdict"] in ("FAKE", "REAL", "UNCERTAIN")
    assert told.line["overlay"] == {"file": None, "note": "cannot be drawn on"}
    assert 'href="overlay' not in (tmp_path / "out" / told.line["report"]).read_text()


def test_a_report_that_cannot_be_written_leaves_no_verdict(
    detector: Detector, stills: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger comes last: what has no report does not count, and is judged by the next run."""

    def fail(*_: object) -> None:
        raise DfpipeError("as if the power went")

    with monkeypatch.context() as patch:
        patch.setattr(judging, "write_report", fail)
        with pytest.raises(DfpipeError, match="power"):
            judged(detector, stills[:1], tmp_path / "out")
    assert lines(tmp_path / "out") == []
    assert not list((tmp_path / "out").glob("*/"))
    assert judged(detector, stills[:1], tmp_path / "out")[0].fresh


def test_heat_maps_that_cannot_be_had_are_refused_first(
    detector: Detector, stills: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(network: object, size: int) -> None:
        raise UsageError("no feature map")

    monkeypatch.setattr("dfpipe.infer.heatmap.check_heatmap", refuse)
    with pytest.raises(UsageError, match="feature map"):
        judged(detector, stills, tmp_path / "out", Options(heatmap=True))
    assert not (tmp_path / "out").exists()
