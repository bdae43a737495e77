from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dfpipe.preprocess.readers import open_video
from dfpipe.preprocess.timeline import Timeline


def timeline(frames: int, every: int) -> Timeline:
    return Timeline(tuple(map(float, range(frames))), tuple(range(frames)), tuple(range(0, frames, every)))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], []),
        ([0, 1, 2], [(None, [0, 1, 2])]),
        ([3, 13, 25], [(None, [3, 13, 25])]),  # neighbouring groups are read through
        ([3, 35], [(None, [3]), (30, [35])]),
        ([95], [(90, [95])]),
        ([0, 50, 51, 99], [(None, [0]), (50, [50, 51]), (90, [99])]),
    ],
)
def test_only_whole_groups_are_skipped(wanted: list[int], expected: list[tuple[int | None, list[int]]]) -> None:
    assert list(timeline(100, 10).jumps(wanted)) == expected


def test_without_keyframes_everything_is_read() -> None:
    assert list(Timeline((0.0, 1.0, 2.0)).jumps([0, 2])) == [(None, [0, 2])]


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 numbered frames in groups of 24 with B-frames."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options={"g": "24", "bf": "3", "crf": "10"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(240):
            image = np.full((64, 64, 3), i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("reader", ["pyav", "decord", "auto"])
@pytest.mark.parametrize(
    "wanted", [[0], [239], [23, 24, 25], [5, 100, 101, 230], [47, 48, 120, 143, 144], range(0, 240, 7)]
)
def test_skipping_gives_the_right_frames(long_clip: Path, reader: str, wanted: list[int]) -> None:
    with open_video(long_clip, reader) as video:
        assert len(video.timeline.times) == 240
        assert len(video.timeline.keyframes) >= 10
        frames = list(video.frames(wanted))
    assert [f.index for f in frames] == list(wanted)
    for frame in frames:
        assert abs(float(frame.image.mean()) - frame.index) < 3
        assert frame.time_s == pytest.approx(frame.index / 24, abs=1e-4)


@pytest.mark.parametrize("reader", ["pyav", "auto"])
def test_frames_hidden_by_an_edit_list_are_not_shown(long_clip: Path, tmp_path: Path, reader: str) -> None:
    """Cut without re-encoding in the middle of a group: the file holds frames from the keyframe on, and hides them."""
    path = tmp_path / "cut.mp4"
    with av.open(str(long_clip)) as source, av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        tick = source.streams.video[0].time_base
        shift = int(10 / 24 / tick)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts -= shift
                packet.dts -= shift
                packet.stream = stream
                sink.mux(packet)
    with open_video(path, reader) as video:
        assert 0 < video.timeline.hidden <= 10
        assert len(video.timeline.times) == 230
        (frame,) = video.frames([0])
        assert abs(float(frame.image.mean()) - 10) < 3
        assert video.damage == ""


def test_what_a_budget_of_decoded_frames_reaches() -> None:
    line = Timeline(tuple(map(float, range(100))), tuple(range(100)), tuple(range(0, 100, 10)))
    assert line.within([5, 45, 95], 18) == [5, 45, 95]  # 6 frames each, from the keyframe on
    assert line.within([5, 45, 95], 17) == [5, 45]
    assert line.within([5, 15, 25], 26) == [5, 15, 25]  # neighbouring groups are decoded through
    assert line.within([5, 15, 25], 25) == [5, 15]
    assert line.within([5], 5) == []
    assert line.within([], 5) == []
    whole = Timeline(tuple(map(float, range(100))))  # no keyframes known: from the start
    assert whole.within([5, 45, 95], 46) == [5, 45]


def test_the_first_frames_alone() -> None:
    line = Timeline((0.0, 0.5, 1.0, 1.5), (0, 5, 10, 15), (0, 2), 3)
    assert line.first(2, "too many") == Timeline((0.0, 0.5), (0, 5), (0,), 3, "too many")
