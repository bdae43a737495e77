"""Which frames of a clip to look at. Pure: from the timeline and the settings to ascending frame indices."""

import bisect
from collections.abc import Callable, Sequence
from itertools import pairwise

from dfpipe.config import FacesConfig
from dfpipe.errors import UnsupportedMedia, choose
from dfpipe.preprocess.timeline import Timeline


def pick(timeline: Timeline, config: FacesConfig) -> list[int]:
    """The frames to look at (for `at_least`, first), at most `config.max_frames`.

    Returns:
        Ascending frame indices without repeats.

    Raises:
        ConfigError: Unknown sampling.
        UnsupportedMedia: Keyframes are wanted of a file that does not mark them.
    """
    picked = choose(SAMPLINGS, config.sampling, "preprocess.faces.sampling")(timeline, config)
    return [picked[i] for i in uniform(len(picked), config.max_frames)]


def uniform(frame_count: int, wanted: int) -> list[int]:
    """Spreads `wanted` frames evenly: the middles of as many equal parts of the clip.

    Middles rather than ends, because the first and last frame of a clip are often black or a fade.

    Args:
        frame_count: Frames in the clip, 0 or more.
        wanted: Frames to pick, 1 or more.

    Returns:
        Ascending frame indices without repeats: min(frame_count, wanted) of them.
    """
    if frame_count <= wanted:
        return list(range(frame_count))
    return [(2 * i + 1) * frame_count // (2 * wanted) for i in range(wanted)]


def per_second(times: Sequence[float], rate: float) -> list[int]:
    """The frames that are on screen at 0 s, 1 / rate s, 2 / rate s, ...: right for variable frame rates too.

    Args:
        times: When each frame is shown, in s, ascending from 0.
        rate: Frames per second wanted; above the clip's own rate, every frame is taken.
    """
    if not times:
        return []
    ticks = range(int(times[-1] * rate) + 1)
    return sorted({bisect.bisect_right(times, tick / rate + 1e-9) - 1 for tick in ticks})


def further(frame_count: int, seen: Sequence[int], wanted: int) -> list[int]:
    """Up to `wanted` frames as far as possible from those already seen: the middles of the widest gaps.

    Args:
        frame_count: Frames in the clip.
        seen: Ascending indices of frames looked at.
        wanted: Frames to add.

    Returns:
        Ascending indices, none of them in `seen`; fewer than wanted only where no more are left.
    """
    edges = [-1, *seen, frame_count]
    found: list[int] = []
    for _ in range(wanted):
        width, start = max((b - a, a) for a, b in pairwise(edges))
        if width < 2:
            break
        middle = start + width // 2
        bisect.insort(edges, middle)
        found.append(middle)
    return sorted(found)


def _keyframes(timeline: Timeline, config: FacesConfig) -> list[int]:
    if not timeline.keyframes:
        raise UnsupportedMedia("the file does not mark its keyframes: choose another preprocess.faces.sampling")
    return list(timeline.keyframes)


SAMPLINGS: dict[str, Callable[[Timeline, FacesConfig], list[int]]] = {
    "uniform": lambda timeline, config: uniform(len(timeline.times), config.frames),
    "at_least": lambda timeline, config: uniform(len(timeline.times), config.frames),  # `further` follows
    "every": lambda timeline, config: list(range(0, len(timeline.times), config.every)),
    "fps": lambda timeline, config: per_second(timeline.times, config.fps),
    "keyframes": _keyframes,
}
