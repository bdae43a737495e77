from itertools import pairwise
from typing import Any

import pytest

from dfpipe.config import FacesConfig
from dfpipe.errors import ConfigError, UnsupportedMedia
from dfpipe.preprocess.sampling import SAMPLINGS, further, per_second, pick, uniform
from dfpipe.preprocess.timeline import Timeline


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


LINE = Timeline(tuple(i / 25 for i in range(100)), tuple(range(100)), (0, 30, 75))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sampling": "uniform", "frames": 2}, [25, 75]),
        ({"sampling": "at_least", "frames": 2}, [25, 75]),
        ({"sampling": "every", "every": 40}, [0, 40, 80]),
        ({"sampling": "fps", "fps": 1.0}, [0, 25, 50, 75]),
        ({"sampling": "fps", "fps": 0.5}, [0, 50]),
        ({"sampling": "fps", "fps": 500.0}, list(range(100))),
        ({"sampling": "keyframes"}, [0, 30, 75]),
        ({"sampling": "every", "every": 1, "max_frames": 4}, [12, 37, 62, 87]),
        ({"sampling": "keyframes", "max_frames": 1}, [30]),
    ],
)
def test_every_sampling(settings: dict[str, Any], expected: list[int]) -> None:
    assert pick(LINE, FacesConfig(**settings)) == expected


@pytest.mark.parametrize("name", SAMPLINGS)
def test_short_and_empty_clips(name: str) -> None:
    config = FacesConfig(sampling=name)
    assert pick(Timeline((0.0,), (0,), (0,)), config) == [0]
    if name != "keyframes":
        assert pick(Timeline(()), config) == []


def test_fps_follows_the_clock_not_the_frame_numbers() -> None:
    times = (0.0, 0.1, 0.2, 3.0, 3.1, 6.0)
    assert per_second(times, 1.0) == [0, 2, 3, 4, 5]  # at 1 and 2 s frame 2 is still on screen, at 4 and 5 s frame 4


def test_keyframes_that_are_not_marked() -> None:
    with pytest.raises(UnsupportedMedia, match="keyframes"):
        pick(Timeline((0.0, 1.0)), FacesConfig(sampling="keyframes"))


def test_unknown_sampling() -> None:
    with pytest.raises(ConfigError, match="at_least"):
        pick(LINE, FacesConfig(sampling="random"))


def test_further_frames_fall_into_the_widest_gaps() -> None:
    assert further(100, [50], 1) == [24]
    assert further(100, [10, 20, 90], 1) == [55]
    assert further(5, [0, 1, 2, 3, 4], 3) == []
    assert further(5, [2], 9) == [0, 1, 3, 4]
    more = further(300, uniform(300, 32), 32)
    assert len(set(more) - set(uniform(300, 32))) == 32
