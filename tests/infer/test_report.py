import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from dfpipe.demo import clip_frames, write_clip
from dfpipe.infer.detector import Detector, Judged
from dfpipe.infer.inputs import Upload
from dfpipe.infer.report import measured_error, media_facts, write_report
from dfpipe.infer.verdicts import to_json
from dfpipe.train.card import read_card
from dfpipe.types import Label, State, Verdict, VerdictKind


class Page(HTMLParser):
    """What a page shows and where it points."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.links, self.tags = "", [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def detector(model: Path) -> Detector:
    return Detector.load(model, "cpu")


@pytest.fixture(scope="module")
def two(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """A clip of two people of whom one is fake."""
    path = tmp_path_factory.mktemp("two") / "two.mp4"
    pairs = zip(clip_frames(30, Label.REAL), clip_frames(30, Label.FAKE), strict=True)
    write_clip(path, (np.hstack(pair) for pair in pairs))
    (judged,) = detector.examine([Upload(path)], "serial")
    return judged


def page_of(judged: Judged, detector: Detector, folder: Path, heat: bool = False) -> Page:
    write_report(folder, judged, to_json(judged.verdict), detector, heat)
    return Page(folder / "report.html")


def test_the_page_says_all_that_the_verdict_says(two: Judged, detector: Detector, tmp_path: Path) -> None:
    page = page_of(two, detector, tmp_path)
    verdict = two.verdict
    text = " ".join(page.text.split())
    for part in ("FAKE", "two.mp4", "person 1", "person 2", verdict.media_sha256, verdict.model_sha256, "mean_logit"):
        assert part in text
    assert f"p_fake {verdict.p_fake:.2f}" in text
    assert f"{verdict.frames_wanted} looked for" in text
    assert verdict.reason[1:] in text
    assert "h264" in text
    assert "Scores over time" in text
    assert page.tags.count("polyline") == 2
    assert page.tags.count("circle") == len(verdict.scores)
    assert json.loads((tmp_path / "report.json").read_text()) == to_json(verdict) | {
        "judged_at": json.loads((tmp_path / "report.json").read_text())["judged_at"]
    }


def test_the_page_stands_alone(two: Judged, detector: Detector, tmp_path: Path) -> None:
    page = page_of(two, detector, tmp_path)
    pictures = [link for link in page.links if link.startswith("data:image/jpeg;base64,")]
    assert len(pictures) == sum(1 for tag in page.tags if tag == "img") >= 4
    assert [link for link in page.links if not link.startswith("data:")] == []
    assert "script" not in page.tags
    raw = (tmp_path / "report.html").read_text()
    assert "default-src 'none'" in raw
    assert not re.search(r"https?://(?!www\.w3\.org)", raw)


def test_heat_maps_double_the_pictures(two: Judged, detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    cold = page_of(two, detector, tmp_path / "a").tags.count("img")
    warm = page_of(two, detector, tmp_path / "b", heat=True)
    assert warm.tags.count("img") == 2 * cold
    assert "not where a picture was altered" in warm.text


def test_file_names_are_escaped(detector: Detector, verdict: Callable[..., Verdict], tmp_path: Path) -> None:
    name = "<script>alert(1)</script>&\x1b[2J.mp4"
    found = verdict(name, verdict=VerdictKind.NO_FACE, p_fake=None, people=(), segments=(), scores=(), reason=name)
    page = page_of(Judged(Upload(Path(name)), found), detector, tmp_path)
    assert "script" not in page.tags
    assert "\x1b" not in (tmp_path / "report.html").read_text()
    assert "<script>alert(1)" in page.text


def test_errors_have_a_page_without_numbers(
    detector: Detector, error: Callable[[str], Verdict], tmp_path: Path
) -> None:
    page = page_of(Judged(Upload(Path("x.mp4")), error("x.mp4")), detector, tmp_path)
    assert "Broken." in page.text
    assert "There is no score" in page.text
    assert not re.search(r"p_fake \d", page.text)
    assert "img" not in page.tags


def test_stills_have_no_times(detector: Detector, tmp_path: Path, save_still: Callable[..., Path]) -> None:
    path = save_still("still.png", next(clip_frames(31, Label.FAKE)))
    (judged,) = detector.examine([Upload(path)], "serial")
    text = page_of(judged, detector, tmp_path).text
    assert "Scores over time" not in text
    assert "0:00" not in text
    assert "a single picture" in text


def test_damage_is_told(detector: Detector, verdict: Callable[..., Verdict], tmp_path: Path) -> None:
    found = verdict(state=State.PARTIAL, cautions=("the file is damaged",), scores=(), people=())
    assert "the file is damaged" in page_of(Judged(Upload(Path("a")), found), detector, tmp_path).text


def test_media_facts_read_well(verdict: Callable[..., Verdict], error: Callable[[str], Verdict]) -> None:
    facts = media_facts(to_json(verdict()))
    assert facts["size"] == "640 x 360 px, 1.2 MB"
    assert facts["clip"] == "h264, 10.00 s, 25 frames/s"
    assert facts["frames"] == "32 looked for, 32 decoded, 31 with a face"
    assert media_facts(to_json(error("a")))["path"] == "a"


def test_the_error_of_a_model_is_named_or_said_to_be_unknown(model: Path, verdict: Callable[..., Verdict]) -> None:
    card, clip = read_card(model), to_json(verdict())
    (sentence,) = measured_error(card, clip)
    assert "flatters it" in sentence
    assert "never measured" in measured_error(replace(card, metrics={}), clip)[0]
    calibration = {
        "fitted_on": {"clips": 900, "datasets": ["DFDC"], "split": "validation"},
        "outside": {"decided": 700, "wrong": 35, "error": 0.05, "error_limit": 0.066},
    }
    (told,) = measured_error(replace(card, metrics={}, calibration=calibration), clip)
    assert "5.0 % were wrong" in told
    assert "not more than 6.6 %" in told


def test_clips_and_stills_have_errors_of_their_own(model: Path, verdict: Callable[..., Verdict]) -> None:
    figures = {"auc": 0.8, "recall": 0.7, "fpr": 0.05, "real": 20, "fake": 20, "n": 40, "measured_on": "forty clips"}
    shipped = {"clips": figures, "crops": {**figures, "auc": 0.95, "measured_on": "crops"}}
    card = replace(read_card(model), metrics={"shipped": shipped})
    (clip,) = measured_error(card, to_json(verdict()))
    (still,) = measured_error(card, to_json(verdict(kind="image")))
    assert "forty clips" in clip
    assert "AUC 0.800" in clip
    assert "5.0 % of the real ones" in clip
    assert "AUC 0.950" in still
