import math

import pytest

from dfpipe.preprocess.boxes import area, centre, iou, moved, scaled, usable
from dfpipe.preprocess.tracks import MAX_GAP, affinity, join
from dfpipe.types import FaceBox


def box(x: float, y: float, side: float = 100, confidence: float = 0.99) -> FaceBox:
    return FaceBox(x, y, x + side, y + side, confidence)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (box(0, 0), box(0, 0), 1.0),
        (box(0, 0), box(50, 0), 1 / 3),
        (box(0, 0), box(100, 0), 0.0),
        (box(0, 0), box(500, 500), 0.0),
        (box(0, 0, 100), box(25, 25, 50), 0.25),
    ],
)
def test_iou(a: FaceBox, b: FaceBox, expected: float) -> None:
    assert iou(a, b) == pytest.approx(expected)
    assert iou(b, a) == pytest.approx(expected)


def test_box_arithmetic() -> None:
    face = FaceBox(10, 20, 30, 60, 0.9, ((15, 25),))
    assert (face.side, area(face), centre(face)) == (40, 800, (20, 40))
    assert scaled(face, 2) == FaceBox(20, 40, 60, 120, 0.9, ((30, 50),))


def test_two_people_keep_their_numbers() -> None:
    frames = [[box(10 * t, 0, 80), box(600 - 10 * t, 0, 120)] for t in range(10)]
    assert join(frames) == [[1, 0]] * 10  # the larger one is person 0


def test_order_within_a_frame_does_not_matter() -> None:
    frames = [[box(0, 0), box(600, 0, 120)], [box(602, 0, 120), box(3, 0)]]
    assert join(frames) == [[1, 0], [0, 1]]


def test_a_person_may_be_out_of_sight_for_a_while() -> None:
    gap: list[list[FaceBox]] = [[] for _ in range(MAX_GAP - 1)]
    assert join([[box(0, 0)], *gap, [box(10, 0)]])[-1] == [0]
    gap.append([])
    assert join([[box(0, 0)], *gap, [box(10, 0)]])[-1] == [1]


def test_a_face_of_quite_another_size_is_another_person() -> None:
    assert affinity(box(0, 0, 100), box(0, 0, 200)) == 0
    assert affinity(box(0, 0, 100), box(0, 0, 110)) > 1


def test_crossing_people_are_told_apart_by_the_nearest_box() -> None:
    frames = [[box(0, 0), box(300, 0)], [box(60, 0), box(240, 0)], [box(120, 0), box(180, 0)]]
    assert join(frames) == [[0, 1]] * 3


def test_sure_boxes_are_joined_before_others_that_lie_nearer() -> None:
    frames = [[box(0, 0)], [box(2, 0, confidence=0.75), box(20, 0)]]
    assert join(frames) == [[0], [0, 1]]
    assert join(frames, min_confidence=0.9) == [[0], [1, 0]]


def test_a_box_that_is_not_sure_goes_on_from_one_that_is() -> None:
    assert join([[box(0, 0)], [box(10, 0, confidence=0.75)], [box(20, 0)]], min_confidence=0.9) == [[0], [0], [0]]


def test_moved() -> None:
    face = FaceBox(1, 2, 3, 4, 0.5, ((1.5, 2.5),))
    assert moved(face, 10, 20) == FaceBox(11, 22, 13, 24, 0.5, ((11.5, 22.5),))


def test_nothing_seen() -> None:
    assert join([]) == []
    assert join([[], []]) == [[], []]


def test_a_degenerate_box_does_not_divide_by_zero() -> None:
    assert join([[FaceBox(5, 5, 5, 5, 0.9)], [FaceBox(5, 5, 5, 5, 0.9)]]) == [[0], [1]]


@pytest.mark.parametrize(
    ("corners", "confidence", "expected"),
    [
        ((10, 10, 20, 20), 0.9, True),
        ((-5, -5, 3, 3), 0.9, True),
        ((10, 10, 20, math.nan), 0.9, False),
        ((10, 10, math.inf, 20), 0.9, False),
        ((10, 10, 20, 20), math.nan, False),
        ((20, 20, 10, 10), 0.9, False),
        ((10, 10, 10, 20), 0.9, False),
        ((100, 0, 110, 10), 0.9, False),
    ],
)
def test_boxes_that_cannot_be_cut(
    corners: tuple[float, float, float, float], confidence: float, expected: bool
) -> None:
    assert usable(FaceBox(*corners, confidence), width=100, height=50) is expected
