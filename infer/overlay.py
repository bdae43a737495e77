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
import cv2
import numpy as np

from dfpipe.config import LimitsConfig
from dfpipe.errors import CorruptMedia, choose
from dfpipe.files import disk_errors
from dfpipe.preprocess.containers import media_kind
from dfpipe.preprocess.crops import encode_jpeg, encode_png
from dfpipe.preprocess.readers import VideoReader, open_image, open_video
from dfpipe.types import FaceBox, Image

OVERLAY_SECONDS = (
    120.0  # chosen here: enough to see what was meant, and an hour of film would take longer than judging it
)
LONGEST_SIDE = 1280  # px; chosen here: labels are easily read, and a 1080p or 4K clip becomes a small file
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

# Vermilion and blue of Okabe and Ito's palette (2008), which people of any colour vision tell apart; grey is neither.
COLOURS = {"FAKE": (213, 94, 0), "REAL": (0, 114, 178), "UNCERTAIN": (115, 115, 115)}
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_Field = tuple[int, int, int, int]  # left, top, right, bottom of a label or box, px


@dataclass(frozen=True, slots=True)
class Mark:
    """One face with its score, in a frame that was looked at or between two of them."""

    frame_index: int
    time_s: float
    track: int  # person number from 0; shown from 1
    box: FaceBox  # px of the full upright frame
    p_fake: float  # 0..1


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
        picture = encode(_drawn(image, faces_at(0, by_frame(job.marks), (0,), (0.0,)), job))
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


def shown_size(height: int, width: int) -> tuple[int, int]:
    """Height and width in px at which a picture is shown: even, which yuv420p asks for, and of bounded length."""
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(2, 2 * round(height * factor / 2)), max(2, 2 * round(width * factor / 2))


# ---- drawing ---------------------------------------------------------------------------------------------------------


def _drawn(image: Image, faces: Sequence[Mark], job: OverlayJob, size: tuple[int, int] | None = None) -> Image:
    """A copy of the picture, at `size` (height, width) or else as `shown_size` says, with everything on it."""
    height, width = size or shown_size(*image.shape[:2])
    across, down = width / image.shape[1], height / image.shape[0]
    # By area, which does not alias, costs 12 ms of a 1080p frame; linear 3 ms, and samples every pixel down to half size.
    by = cv2.INTER_AREA if across < 0.5 else cv2.INTER_LINEAR
    canvas = np.array(
        cv2.resize(image, (width, height), interpolation=by) if (across, down) != (1, 1) else image, np.uint8
    )
    unit = max(height, width)
    line = max(2, round(unit / 400))
    labels, taken = [], []
    for face in faces:
        kind = job.verdicts.get(face.track, "UNCERTAIN")
        corners = (face.box.x1 * across, face.box.y1 * down, face.box.x2 * across, face.box.y2 * down)
        x1, y1, x2, y2 = (round(min(max(c, -unit), 2 * unit)) for c in corners)
        thick = 2 * line if kind == "FAKE" else line  # so that it does not rest on colour alone
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _BLACK, thick + 2)  # a dark rim shows on any background
        cv2.rectangle(canvas, (x1, y1), (x2, y2), COLOURS[kind], thick)
        labels.append((f"person {face.track + 1}  {face.p_fake:.2f}", (x1, y1, x2, y2), COLOURS[kind]))
        taken.append((x1, y1, x2, y2))
    for text, box, colour in labels:  # after all boxes, so that no line crosses them
        taken.append(_label(canvas, text, box, colour, taken))
    if job.headline:
        _strip(canvas, job.headline)
    return canvas


def _label(canvas: Image, text: str, box: _Field, colour: tuple[int, int, int], taken: Sequence[_Field]) -> _Field:
    """Text on a filled field above a box, or where else near it no other label or face lies."""
    scale, weight, pad = _text_size(canvas)
    (wide, letters), base = cv2.getTextSize(text, _FONT, scale, weight)
    wide, high = wide + 2 * pad, letters + base + pad
    x1, top, x2, bottom = box
    above, flush = top - high, x2 - wide  # flush with the right side
    wishes = ((x1, above), (flush, above), (x1, above - high), (x1, bottom), (x1, bottom + high))
    limits = canvas.shape[1] - wide, canvas.shape[0] - high
    corners = [(max(0, min(x, limits[0])), max(0, min(y, limits[1]))) for x, y in wishes]
    fields = [(x, y, x + wide, y + high) for x, y in corners]
    left, upper, right, lower = next((f for f in fields if not any(_overlap(f, other) for other in taken)), fields[0])
    cv2.rectangle(canvas, (left, upper), (right, lower), colour, cv2.FILLED)
    cv2.putText(canvas, text, (left + pad, lower - base - pad // 2), _FONT, scale, _WHITE, weight, cv2.LINE_AA)
    return left, upper, right, lower


def _overlap(one: _Field, two: _Field) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def _strip(canvas: Image, headline: str) -> None:
    """One line of text on a darkened strip along the lower edge, shortened to what fits."""
    scale, weight, pad = _text_size(canvas)
    text = "".join(c if " " <= c <= "~" else "?" for c in headline)  # OpenCV's fonts hold ASCII
    shown = text
    while text and cv2.getTextSize(shown, _FONT, scale, weight)[0][0] > canvas.shape[1] - 2 * pad:
        text = text[:-1]
        shown = f"{text.rstrip()}..."
    (_, high), base = cv2.getTextSize(shown, _FONT, scale, weight)
    strip = canvas[-(high + base + 2 * pad) :]
    strip[:] = strip // 4
    place = (pad, canvas.shape[0] - base - pad)
    cv2.putText(canvas, shown, place, _FONT, scale, _WHITE, weight, cv2.LINE_AA)


def _text_size(canvas: Image) -> tuple[float, int, int]:
    """Scale and weight of the font, and space around text in px."""
    pixels = max(11, round(max(canvas.shape[:2]) / 65))  # of capitals; smaller ones are hard to read
    return cv2.getFontScaleFromHeight(_FONT, pixels, 1), max(1, pixels // 10), max(2, pixels // 3)


# ---- reading and writing ---------------------------------------------------------------------------------------------


def _frames(video: VideoReader, wanted: int, job: OverlayJob) -> Iterator[tuple[float, Image]]:
    """Time in s and finished picture of the first `wanted` frames, one at a time, all of one size."""
    times = video.timeline.times
    sampled = [i for i in job.sampled if i < len(times)]
    seen = by_frame(job.marks)
    size: tuple[int, int] | None = None
    for frame in video.frames(range(wanted)):
        size = size or shown_size(*frame.image.shape[:2])
        yield frame.time_s, _drawn(frame.image, faces_at(frame.index, seen, sampled, times), job, size)


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
