"""Open a clip: a table of video readers, all upright, RGB, with presentation times.

The readers give the same pixels (8 bits, even sizes). `auto` asks whom it costs least: PyAV where pictures can be passed
over (H.264 above all: to see 32 of the 300 frames of a DFDC clip then costs half of what decord takes), else decord, and
PyAV for what decord refuses, because it saves what it can of damaged files. Who answered is in `VideoInfo.reader`. Limits
are checked on what PyAV reads from the headers, before any frame is decoded.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import av
import av.error
import numpy as np

from dfpipe.child import allow
from dfpipe.config import LimitsConfig
from dfpipe.errors import CorruptMedia, choose
from dfpipe.preprocess.headers import Headers, address, open_container, probe
from dfpipe.preprocess.timeline import Timeline
from dfpipe.types import Frame, Image, VideoInfo

BATCH = 8  # frames decoded at a time by decord: 50 MB at 1080p, 200 MB at 4K

# Codecs in which the decoder can pass over pictures to which no other refers, without a trace in those that it decodes. Not
# HEVC, whose pictures so marked may still be referred to by others of a higher temporal layer (H.265, 7.4.2.2).
_PASSED_OVER = frozenset(["h264", "mpeg1video", "mpeg2video", "mpeg4"])


class VideoReader(Protocol):
    """A clip that is open for reading."""

    info: VideoInfo
    timeline: Timeline
    damage: str  # what is known to be lost, "" if nothing; complete only after `frames` is used up
    left_out: str  # what a limit keeps from being read, "" if nothing; complete only after `frames` was begun

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Yields the frames at ascending `indices`, upright and RGB; those that cannot be decoded are left out.

        So are those for which more than `scan_frames` would have to be decoded.

        Raises:
            CorruptMedia: The decoder gives up on the file.
        """
        ...


@contextlib.contextmanager
def open_video(path: Path, reader: str = "auto", limits: LimitsConfig | None = None) -> Iterator[VideoReader]:
    """Opens a clip.

    Args:
        path: A file whose first bytes are those of a clip.
        reader: A key of `READERS`.
        limits: What is refused before decoding.

    Raises:
        ConfigError: Unknown reader.
        UnsupportedMedia: No picture stream in it, or a codec that we do not decode.
        CorruptMedia: Nothing can be read from it.
        TooLargeMedia: Over a limit.
    """
    limits = limits or LimitsConfig()
    opener = choose(READERS, reader, "reader")
    size = path.stat().st_size
    allow(limits.allowance(size))
    headers = probe(path, limits)
    info = headers.info
    allow(limits.allowance(size, info.duration_s or 0.0, info.width * info.height, info.fps or 0.0))
    with contextlib.closing(opener(path, headers, limits)) as opened:
        yield opened


# ---- the readers ---------------------------------------------------------------------------------------------------


class DecordReader:
    """decord: rotates by itself, seeks to group starts by itself, refuses damaged files."""

    name = "decord"

    def __init__(self, path: Path, headers: Headers, limits: LimitsConfig) -> None:
        if headers.strange:
            raise CorruptMedia(f"decord must not open it: {headers.strange}")
        import decord

        info, timeline = headers.info, headers.timeline
        decord.logging.set_level(decord.logging.QUIET)
        self._errors = (decord.DECORDError, RuntimeError, IndexError, ValueError, OSError)
        try:
            self._video = decord.VideoReader(address(path), ctx=decord.cpu(0), num_threads=1)
            count = len(self._video)
            height, width = self._video[0].shape[:2] if count else (info.height, info.width)
        except self._errors as error:
            raise CorruptMedia("decord cannot open it") from error
        if count != len(timeline.times):
            raise CorruptMedia(f"decord counts {count} frames, {len(timeline.times)} are to be shown")
        self.timeline = timeline
        self.info = replace(info, reader=self.name, width=width, height=height)
        self.damage = _missing(timeline, info)
        self.left_out = ""
        self._limits = limits

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """See `VideoReader.frames`."""
        within, self.left_out = _within_limit(indices, self.timeline, self._limits)
        for start in range(0, len(within), BATCH):
            batch = within[start : start + BATCH]
            try:
                images = self._video.get_batch(batch).asnumpy()
            except self._errors as error:
                raise CorruptMedia("decord cannot decode it") from error
            for index, image in zip(batch, images, strict=True):
                yield Frame(index, self.timeline.times[index], image)

    def close(self) -> None:
        """Frees the decoder."""
        del self._video


class PyAVReader:
    """PyAV: packet by packet, so that a damaged one costs only itself.

    What is not wanted is skipped where it can be: whole groups of pictures, and pictures to which no other refers.
    """

    name = "pyav"

    def __init__(self, path: Path, headers: Headers, limits: LimitsConfig) -> None:
        self._path = path
        self._limits = limits
        self.timeline = headers.timeline
        self.info = replace(headers.info, reader=self.name)
        self.damage = _missing(headers.timeline, headers.info)
        self.left_out = headers.timeline.left_out

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """See `VideoReader.frames`."""
        wanted, self.left_out = _within_limit(indices, self.timeline, self._limits)
        errors = too_large = 0
        most = int(self._limits.frame_megapixels * 1e6)
        with open_container(self._path) as container:
            stream = container.streams.best("video")
            stream.thread_count = 1
            stream.codec_context.options = {"max_pixels": str(most)}
            for start, group in self.timeline.jumps(wanted):
                if start is not None:
                    container.seek(self.timeline.stamps[start], stream=stream)
                last = group[-1]
                left = set(group)
                for index, frame in self._decode(container, stream, group):
                    if frame is None:  # where a header's size was refused, that size is left in the context, or none
                        errors += 1
                        too_large += not 0 < stream.codec_context.width * stream.codec_context.height <= most
                    elif index in left:
                        left.discard(index)
                        yield Frame(index, self.timeline.times[index], self._upright(frame))
                    if index is not None and index >= last:
                        break
        if too_large:
            told = (
                f"{too_large} frames in mid-stream have no size, or one over {self._limits.named('frame_megapixels')}"
            )
            self.left_out = "; ".join(filter(None, [self.left_out, told]))
        if errors > too_large:
            self.damage = self.damage or f"{errors - too_large} damaged packets"

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _decode(self, container: Any, stream: Any, wanted: Sequence[int]) -> Iterator[tuple[int | None, Any]]:
        """(index, frame) in presentation order from where the container stands; (None, None) for a packet that fails.

        Frames that are not wanted may be missing.
        """
        place = {stamp: index for index, stamp in enumerate(self.timeline.stamps)}
        needed = {self.timeline.stamps[index] for index in wanted} if can_pass_over(self.info, self.timeline) else None
        decoded = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
                if needed is not None:
                    passed = packet.pts is not None and packet.pts not in needed
                    stream.codec_context.skip_frame = "NONREF" if passed else "DEFAULT"
                frames = packet.decode()
            except (StopIteration, av.error.EOFError):
                return
            except av.error.FFmpegError:
                yield None, None
                continue
            for frame in frames:
                yield (place.get(frame.pts, -1) if place else decoded), frame
                decoded += 1

    def _upright(self, frame: Any) -> Image:
        image = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
        if image.shape[:2] != (self.info.height, self.info.width) or frame.rotation != self.info.rotation:
            height, width = image.shape[:2]
            self.info = replace(self.info, width=width, height=height, rotation=int(frame.rotation))
        return np.ascontiguousarray(image)


def can_pass_over(info: VideoInfo, timeline: Timeline) -> bool:
    """Whether pictures that are not wanted, and to which no other refers, can be told before they are decoded."""
    return info.codec in _PASSED_OVER and bool(timeline.stamps)


class AutoReader:
    """PyAV where it can pass over pictures; else decord, and PyAV from the frame on at which decord gives up."""

    def __init__(self, path: Path, headers: Headers, limits: LimitsConfig) -> None:
        self._again: Callable[[], VideoReader] = lambda: PyAVReader(path, headers, limits)
        self._reader: VideoReader
        self.timeline = headers.timeline
        if can_pass_over(headers.info, headers.timeline):
            self._reader = self._again()
            return
        try:
            self._reader = DecordReader(path, headers, limits)
        except CorruptMedia:
            self._reader = self._again()

    @property
    def info(self) -> VideoInfo:
        """What the reader that answered says."""
        return self._reader.info

    @property
    def damage(self) -> str:
        """What is known to be lost."""
        return self._reader.damage

    @property
    def left_out(self) -> str:
        """What a limit keeps from being read."""
        return self._reader.left_out

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """See `VideoReader.frames`."""
        done = -1
        try:
            for frame in self._reader.frames(indices):
                yield frame
                done = frame.index
        except CorruptMedia:
            if isinstance(self._reader, PyAVReader):
                raise
            self._reader = self._again()
            yield from self._reader.frames([i for i in indices if i > done])

    def close(self) -> None:
        """Frees the decoder."""
        self._reader.close()  # type: ignore[attr-defined]


READERS: dict[str, Callable[[Path, Headers, LimitsConfig], Any]] = {
    "auto": AutoReader,
    "decord": DecordReader,
    "pyav": PyAVReader,
}


def _within_limit(indices: Sequence[int], timeline: Timeline, limits: LimitsConfig) -> tuple[list[int], str]:
    """What of some frames can be had under `scan_frames`, and what is left out of the clip in words."""
    within = timeline.within(indices, limits.scan_frames)
    if len(within) == len(indices):
        return within, timeline.left_out
    lost = f"{len(indices) - len(within)} wanted frames would take more decoded ones than {limits.named('scan_frames')}"
    return within, "; ".join(filter(None, [timeline.left_out, lost]))


def _missing(timeline: Timeline, info: VideoInfo) -> str:
    """Says what the file claims and does not hold, "" if nothing.

    Files without a frame count (fragmented MP4, Matroska) still claim a duration: a fifth short of it is a cut file, less
    can be a frame rate that varies.
    """
    if timeline.left_out:
        return ""
    there = len(timeline.times)
    if info.frame_count and not timeline.hidden:  # of hidden frames the demuxer leaves some out altogether
        return f"only {there} of {info.frame_count} frames are in the file" if there < info.frame_count else ""
    expected = (info.duration_s or 0) * (info.fps or 0)
    return f"the file holds {there} of about {expected:.0f} frames" if there < 0.8 * expected else ""
