from itertools import pairwise

import pytest

from dfpipe.preprocess.sampling import uniform


@pytest.mark.parametrize(
    ("frames", "wanted", "expected"),
    [(0, 5, []), (3, 5, [0, 1, 2]), (5, 5, [0, 1, 2, 3, 4]), (10, 1, [5]), (10, 2, [2, 7]), (300, 3, [50, 150, 250])],
)
def test_by_hand(frames: int, wanted: int, expected: list[int]) -> None:
    assert uniform(frames, wanted) == expected


@pytest.mark.parametrize("frames", [1, 7, 31, 32, 33, 300, 216_000])
@pytest.mark.parametrize("wanted", [1, 2, 32, 100])
def test_ascending_distinct_inside_and_even(frames: int, wanted: int) -> None:
    picked = uniform(frames, wanted)
    assert len(picked) == min(frames, wanted)
    assert picked == sorted(set(picked))
    assert picked[0] >= 0
    assert picked[-1] < frames
    gaps = [b - a for a, b in pairwise(picked)]
    assert not gaps or max(gaps) - min(gaps) <= 1
