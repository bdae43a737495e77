from dataclasses import replace
from typing import Any

import pytest

from dfpipe.infer.aggregate import judge_clip, judge_people
from dfpipe.infer.words import (
    Conditions,
    cautions_of,
    clock,
    confidence_of,
    likelihood,
    reason_of,
    telling,
)
from dfpipe.types import FrameScore, State, VerdictKind

BAND = (0.4, 0.6)
GOOD = Conditions(State.OK, "video", 32, 32, 0, 200.0, 0.9, 300.0, 120.0, 0.2)
CALIBRATION: dict[str, Any] = {"fitted_on": {"real": 500, "fake": 400, "clips": 900, "datasets": ["DFDC"]}}


def scores(track: int, *values: float) -> list[FrameScore]:
    return [FrameScore(10 * i, float(i), track, p) for i, p in enumerate(values)]


def reason(*people: list[FrameScore], min_frames: int = 2, clip: bool = True, bits: float | None = None) -> str:
    together = [s for person in people for s in person]
    judged = judge_people(together, "mean", BAND, min_frames, bits)
    return reason_of(judge_clip(judged, min_frames)[0], judged, together, min_frames, clip, BAND)


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ([[0.7, 0.9, 0.8]], "the one person seen looks manipulated; the clearest frames are at 0:01 and 0:02"),
        (
            [[0.7, 0.7, 0.9], [0.95, 0.7, 0.7]],
            "2 of 2 people look manipulated; the clearest frames are at 0:00 and 0:02",
        ),
        (
            [[0.1, 0.1], [0.95, 0.7]],
            "1 of 2 people looks manipulated (person 2); the clearest frames are at 0:00 and 0:01",
        ),
        ([[0.1, 0.2]], "no sign of manipulation in the one person seen, over 2 frames"),
        ([[0.1, 0.2], [0.1, 0.1, 0.1]], "no sign of manipulation in 2 of 2 people, over 5 frames"),
        ([[0.1, 0.2], [0.5, 0.5]], "the scores of 1 of 2 people are too close to call"),
        ([[0.9]], "the one person seen was seen too briefly to judge"),
        (
            [[0.1, 0.1], [0.1, 0.1], [0.9]],
            "1 of 3 people was seen too briefly to judge; no sign of manipulation in the other 2",
        ),
    ],
)
def test_reasons(people: list[list[float]], expected: str) -> None:
    assert reason(*(scores(i, *values) for i, values in enumerate(people))) == expected


def test_a_part_that_looks_manipulated_is_named() -> None:
    told = reason(scores(0, *[0.05] * 20), scores(1, *[0.02] * 20, *[0.9] * 5, *[0.02] * 7))
    assert reason(scores(0, *[0.3] * 20, *[0.9] * 5), scores(1, 0.1, 0.1)) == (
        "the scores of 1 of 2 people are too close to call; a part looks manipulated (person 1 from 0:20 to 0:24)"
    )
    assert told == (
        "part of the clip looks manipulated (person 2 from 0:20 to 0:24), the whole of it does not: it cannot be called real"
    )


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ([[0.1, 0.2], [0.1, 0.1]], "no sign of manipulation, but in so strongly compressed a clip none may be left: "),
        ([[0.1, 0.2], [0.1]], "no sign of manipulation, but in so strongly compressed a clip none may be left: "),
        ([[0.1, 0.2], [0.5, 0.5]], "the scores of 1 of 2 people are too close to call"),
        ([[0.1, 0.2], [0.9, 0.9]], "1 of 2 people looks manipulated (person 2); "),
        ([[0.1]], "the one person seen was seen too briefly to judge"),
    ],
)
def test_reasons_of_a_strongly_compressed_clip(people: list[list[float]], expected: str) -> None:
    assert reason(*(scores(i, *values) for i, values in enumerate(people)), bits=0.01).startswith(expected)


def test_a_still_has_no_times() -> None:
    assert reason(scores(0, 0.9), min_frames=1, clip=False) == "the one person seen looks manipulated"


def test_telling_frames_lie_apart() -> None:
    close = [FrameScore(i, i / 10, 0, 0.9 - i / 100) for i in range(30)]
    assert [s.time_s for s in telling(close, 2)] == [0.0, 1.0]
    assert [s.time_s for s in telling(close, 2, fake=False)] == [2.9, 1.9]
    two = [FrameScore(0, 0.0, 0, 0.9), FrameScore(0, 0.0, 1, 0.8)]
    assert telling(two, 2) == two  # two people in one frame


def test_confidence_is_that_of_the_shown_label() -> None:
    assert confidence_of(VerdictKind.REAL, 0.2, CALIBRATION)[0] == pytest.approx(0.8)
    sure, words = confidence_of(VerdictKind.FAKE, 0.93, CALIBRATION)
    assert sure == pytest.approx(0.93)
    assert words == "very likely manipulated, on material like DFDC"


def test_confidence_is_not_above_what_the_data_support() -> None:
    assert confidence_of(VerdictKind.FAKE, 0.99999, CALIBRATION)[0] == pytest.approx(1 - 3 / 400)
    assert confidence_of(VerdictKind.REAL, 0.0, CALIBRATION)[0] == pytest.approx(1 - 3 / 500)
    few = {"fitted_on": {"real": 4, "fake": 4, "datasets": ["x"]}}
    assert confidence_of(VerdictKind.FAKE, 0.99, few)[0] == pytest.approx(0.5)


def test_no_confidence_without_a_number_a_label_or_a_calibration() -> None:
    assert confidence_of(VerdictKind.NO_FACE, None, CALIBRATION) == (None, "")
    assert confidence_of(VerdictKind.UNCERTAIN, 0.5, CALIBRATION) == (None, "")
    number, words = confidence_of(VerdictKind.FAKE, 0.9, None)
    assert number is None
    assert "not calibrated" in words


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (1.0, "virtually certain"),
        (0.95, "extremely likely"),
        (0.9, "very likely"),
        (0.7, "likely"),
        (0.3, "less likely than not"),
    ],
)
def test_likelihood(p: float, words: str) -> None:
    assert likelihood(p) == words


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ()),
        ({"state": State.PARTIAL}, ("the file is damaged",)),
        ({"with_face": 0}, ()),  # the verdict says that already
        ({"with_face": 1}, ("only 1 frame with a face",)),
        ({"with_face": 10}, ("a face in only 10 of 32 frames looked at",)),
        ({"enlarged": 3.0, "face_px": 38.2}, ("small faces (38 px)",)),
        ({"sharpness": 2.0}, ("blurred or very smooth faces",)),
        ({"luma": 20.0}, ("dark faces",)),
        ({"bits_per_pixel": 0.01}, ("strong compression",)),
        ({"dropped": 2}, ("2 faces seen in one frame only and left out",)),
        (
            {"kind": "image", "wanted": 1, "with_face": 1, "bits_per_pixel": None},
            ("a single picture: nothing can be said about movement",),
        ),
    ],
)
def test_cautions(change: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert cautions_of(replace(GOOD, **change)) == expected


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (3.9, "0:03"), (63, "1:03"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
