from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dfpipe.colours import LINES
from dfpipe.infer.evidence import DASHES, HEIGHT, MOST_PEOPLE, WIDTH, faces_to_show, score_chart
from dfpipe.infer.verdicts import to_json
from dfpipe.types import FaceBox, FaceCrop, FrameScore, PersonVerdict, Verdict, VerdictKind

BOX = FaceBox(0, 0, 10, 10, 1.0)


def person(track: int, kind: VerdictKind) -> PersonVerdict:
    return PersonVerdict(track, kind, 0.5, 10, 0.0, 9.0)


def made(verdict: Callable[..., Verdict], *people: tuple[VerdictKind, list[float]]) -> tuple[Any, list[FaceCrop]]:
    scores = [FrameScore(i, float(i), t, p, BOX) for t, (_, values) in enumerate(people) for i, p in enumerate(values)]
    crops = [
        FaceCrop(s.frame_index, s.time_s, s.track, BOX, np.full((4, 4, 3), s.frame_index, np.uint8)) for s in scores
    ]
    verdicts = tuple(person(t, kind) for t, (kind, _) in enumerate(people))
    return verdict(people=verdicts, scores=tuple(scores)), crops


@pytest.mark.parametrize(
    ("kind", "speaking", "against"),
    [
        (VerdictKind.FAKE, [9, 8, 7, 6, 5], [0]),
        (VerdictKind.REAL, [0, 1, 2, 3, 4], [9]),
        (VerdictKind.UNCERTAIN, [9, 8, 7, 0, 1, 2], []),
    ],
)
def test_the_most_telling_faces_and_one_against(
    verdict: Callable[..., Verdict], kind: VerdictKind, speaking: list[int], against: list[int]
) -> None:
    found, crops = made(verdict, (kind, [i / 10 for i in range(10)]))
    faces = faces_to_show(found, crops)[0]
    assert [f.score.frame_index for f in faces if not f.against] == speaking
    assert [f.score.frame_index for f in faces if f.against] == against
    assert all(
        face.crop.image[0, 0, 0] == face.score.frame_index for face in faces
    )  # score and picture belong together


def test_a_single_face_is_shown_once(verdict: Callable[..., Verdict]) -> None:
    found, crops = made(verdict, (VerdictKind.FAKE, [0.9]))
    assert len(faces_to_show(found, crops)[0]) == 1


def test_a_crowd_is_cut_and_told(verdict: Callable[..., Verdict]) -> None:
    found, crops = made(verdict, *[(VerdictKind.REAL, [0.1, 0.2])] * 12)
    assert len(faces_to_show(found, crops)) == MOST_PEOPLE
    chart = score_chart(to_json(found))
    assert chart is not None
    assert (len(chart["lines"]), chart["left_out"]) == (MOST_PEOPLE, 4)


def test_chart_by_hand(verdict: Callable[..., Verdict]) -> None:
    found, _ = made(verdict, (VerdictKind.FAKE, [0.0, 1.0, 0.5]))
    chart = score_chart(to_json(found))
    assert chart is not None
    (line,) = chart["lines"]
    xs, ys = zip(*[map(float, point.split(",")) for point in line["points"].split()], strict=True)
    assert ys[0] == chart["bottom"] == chart["marks"][0][0]  # p_fake 0 lies on the axis
    assert ys[1] == chart["marks"][-1][0]
    assert ys[2] == chart["threshold"] == pytest.approx((ys[0] + ys[1]) / 2)
    assert xs[0] == chart["left"]
    assert xs[2] == pytest.approx(chart["left"] + 0.2 * (chart["right"] - chart["left"]))  # 2 of 10 s
    assert chart["band"][0] < chart["threshold"] < sum(chart["band"])
    assert [label for _, label in chart["ticks"]][:3] == ["0:00", "0:02", "0:04"]
    assert line["dots"][1][2] == "person 1 at 0:01: 1.00"


@pytest.mark.parametrize("seconds", [0.2, 1.0, 59.0, 600.0, 7200.0, 90_000.0])
def test_ticks_are_few_and_inside(verdict: Callable[..., Verdict], seconds: float) -> None:
    scores = (FrameScore(0, 0.0, 0, 0.1, BOX), FrameScore(1, seconds, 0, 0.2, BOX))
    chart = score_chart(to_json(verdict(scores=scores, media=None)))
    assert chart is not None
    assert 2 <= len(chart["ticks"]) <= 11
    assert all(0 <= x <= WIDTH for x, _ in chart["ticks"])
    assert all(0 <= y <= HEIGHT for y, _ in chart["marks"])


def test_no_chart_without_time(verdict: Callable[..., Verdict], error: Callable[..., Verdict]) -> None:
    assert score_chart(to_json(error("a"))) is None
    assert score_chart(to_json(verdict(scores=(FrameScore(0, 0.0, 0, 0.9, BOX),)))) is None


def test_every_line_looks_different() -> None:
    assert len(set(LINES)) == len(set(DASHES)) == MOST_PEOPLE
