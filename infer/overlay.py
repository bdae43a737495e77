"""The clip again, with a box, a number and a score on every face that was judged: so that a person can see what was meant.

Faces were looked at in some frames only. Between two of these the box glides in a straight line, which is where the face
roughly was, not where it was found; nothing is drawn where the person was not found. Sound is left out.
"""

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av

from dfpipe.config import LimitsConfig
from dfpipe.errors import CorruptMedia, choose
from dfpipe.files import disk_errors
from dfpipe.infer.drawing import Mark, draw, shown_size
from dfpipe.preprocess.containers import media_kind
from dfpipe.preprocess.crops import encode_jpeg, encode_png
from dfpipe.preprocess.readers import VideoReader, open_video
from dfpipe.preprocess.stills import open_image
from dfpipe.types import FaceBox, Image

OVERLAY_SECONDS = (
    120.0  # chosen here: enough to see what was meant, and an hour of film would take longer than judging it
)
TICKS = 60_000  # per second; MPEG-4 allows 65,535; whole numbers of ticks for 24, 25, 30, 50, 60 and 30,000 / 1,001 frames/s
SLACK_S = 1e-5  # times are rounded to 1e-6 s, so two equal gaps may differ by that much
ENCODERS = ("libx264", "mpeg4")  # the first that this PyAV has; browsers play what the first one makes
_QUALITY = {
    "libx264": {"crf": "23", "preset": "veryfast"},
    "mpeg4": {"qmin": "2", "qmax": "6"},
}  # fast rather than small
_JPEG_QUALITY = 92
_STILLS: dict[str, Callable[[Image], bytes]] = {
    ".jpg": lambda image: encode_jpeg(image, _JPEG_QUALITY),
    ".jpeg": lambda image: encode_jpeg(image, _JPEG_QUALITY),
    ".png": encode_png,
}


@dataclass(frozen=True, slots=True)
class OverlayJob:
    """What to draw on one clip or still, and where to write it."""

    path: Path
    out: Path  # MP4 for a clip; for a still .jpg, .jpeg or .png. Temporary: whoever gave it renames it when done
    marks: tuple[Mark, ...]
    verdicts: Mapping[int, str]  # track to a key of `COLOURS`
    sampled: tuple[int, ...]  # all frames that were looked at, ascending
    headline: str  # "" for none
    reader: str  # key of `dfpipe.preprocess.readers.READERS`
    limits: LimitsConfig


Seen = Mapping[int, Mapping[int, Mark]]  # frame index to track to mark


def start_overlay() -> None:
    """The `setup` for `dfpipe.workers.run_all`: loads what a worker needs before its memory is limited."""
    import decord  # noqa: F401


def overlay_task(job: OverlayJob) -> str:
    """Draws on one clip or still, in a worker. Of a damaged clip, what can be decoded is drawn.

    An MP4 has H.264 in yuv420p, the presentation times of the clip, even sides of at most `LONGEST_SIDE` px, its index in
    front, and no sound. Where PyAV comes without libx264 it is MPEG-4, which most browsers do not play.

    Returns:
        A note for the report: what of the clip is not shown, "" if nothing.

    Raises:
        MediaError: The input's state and reason.
        ConfigError: Unknown reader, or unknown ending of a picture.
        ResourceError: The disk is full.
    """
    if media_kind(job.path) == "image":
        encode = choose(_STILLS, job.out.suffix.lower(), "ending of a picture")
        image = open_image(job.path, job.limits)
        picture = encode(draw(image, faces_at(0, by_frame(job.marks), (0,), (0.0,)), job.verdicts, job.headline))
        with disk_errors(job.out.parent):
            job.out.write_bytes(picture)
        return ""
    with open_video(job.path, job.reader, job.limits) as video:
        times = video.timeline.times
        wanted = bisect.bisect_left(times, OVERLAY_SECONDS)
        with disk_errors(job.out.parent):
            shown = _encode(job.out, _frames(video, wanted, job), video.info.fps)
    cut = f"shows the first {OVERLAY_SECONDS:g} s only" if wanted < len(times) else ""
    lost = f"{wanted - shown} of {wanted} frames could not be decoded" if shown < wanted else ""
    return "; ".join(filter(None, [cut, lost]))


# ---- where the faces are (pure) --------------------------------------------------------------------------------------


def by_frame(marks: Iterable[Mark]) -> Seen:
    """Orders marks by frame, then person."""
    seen: dict[int, dict[int, Mark]] = {}
    for mark in marks:
        seen.setdefault(mark.frame_index, {})[mark.track] = mark
    return seen


def faces_at(index: int, seen: Seen, sampled: Sequence[int], times: Sequence[float]) -> list[Mark]:
    """Who is to be marked in a frame, and where.

    Between two neighbouring sampled frames that both show a person, box and score are interpolated linearly in time. If
    only one of them does, the box stays as it is for half the time between them, and is gone in the other half. Before
    the first and after the last sampled frame it stays for half the gap on their other side.

    Args:
        index: Of the frame.
        seen: From `by_frame`.
        sampled: All frames that were looked at, ascending.
        times: Presentation time of every frame of the clip, in s.

    Returns:
        One mark per person, by track.
    """
    if not sampled:
        return []
    place = bisect.bisect_right(sampled, index)
    nearest = max(0, min(place - 1, len(sampled) - 2))
    pair = sampled[nearest : nearest + 2]
    reach = (times[pair[-1]] - times[pair[0]]) / 2 + SLACK_S
    before = seen.get(sampled[place - 1], {}) if place else {}
    after = seen.get(sampled[place], {}) if place < len(sampled) else {}
    found = []
    for track in sorted(before.keys() | after.keys()):
        one, two = before.get(track), after.get(track)
        if one and two:
            found.append(_between(one, two, index, times))
        elif (near := one or two) and abs(times[index] - times[near.frame_index]) <= reach:
            found.append(Mark(index, times[index], track, near.box, near.p_fake))
    return found


def _between(one: Mark, two: Mark, index: int, times: Sequence[float]) -> Mark:
    start, end = times[one.frame_index], times[two.frame_index]
    share = (times[index] - start) / (end - start)

    def mix(a: float, b: float) -> float:
        return a + share * (b - a)

    a, b = one.box, two.box
    box = FaceBox(mix(a.x1, b.x1), mix(a.y1, b.y1), mix(a.x2, b.x2), mix(a.y2, b.y2), mix(a.confidence, b.confidence))
    return Mark(index, times[index], one.track, box, mix(one.p_fake, two.p_fake))


# ---- reading and writing ---------------------------------------------------------------------------------------------


def _frames(video: VideoReader, wanted: int, job: OverlayJob) -> Iterator[tuple[float, Image]]:
    """Time in s and finished picture of the first `wanted` frames, one at a time, all of one size."""
    times = video.timeline.times
    sampled = [i for i in job.sampled if i < len(times)]
    seen = by_frame(job.marks)
    size: tuple[int, int] | None = None
    for frame in video.frames(range(wanted)):
        size = size or shown_size(*frame.image.shape[:2])
        faces = faces_at(frame.index, seen, sampled, times)
        yield frame.time_s, draw(frame.image, faces, job.verdicts, job.headline, size)


def _encode(out: Path, frames: Iterator[tuple[float, Image]], rate: float | None) -> int:
    """Writes pictures of one size as an MP4 and returns how many.

    Raises:
        CorruptMedia: There are none.
    """
    first = next(frames, None)
    if first is None:
        raise CorruptMedia("no frame can be decoded")
    count, last = 0, -1
    with av.open(str(out), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = _stream(container, first[1], rate)
        for time_s, image in chain([first], frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            last = max(round(time_s * TICKS), last + 1)  # the encoder takes no time twice
            frame.pts, frame.time_base = last, Fraction(1, TICKS)
            container.mux(stream.encode(frame))
            count += 1
        container.mux(stream.encode(None))
    return count


def _stream(container: Any, image: Image, rate: float | None) -> Any:
    codec = next(name for name in ENCODERS if name in av.codecs_available)
    hint = Fraction(rate or 25).limit_denominator(1001)  # for the encoder's planning; the times are those of the frames
    stream = container.add_stream(codec, rate=hint, options=_QUALITY[codec])
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
    stream.codec_context.thread_count = 1  # clips are worked on side by side
    return stream
