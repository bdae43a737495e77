"""Open a clip or a still: a table of video readers, all upright, RGB, with presentation times.

The readers give the same pixels (8 bits, even sizes). `auto` asks whom it costs least: PyAV where pictures can be passed
over (H.264 above all: to see 32 of the 300 frames of a DFDC clip then costs half of what decord takes), else decord, and
PyAV for what decord refuses, because it saves what it can of damaged files. Who answered is in `VideoInfo.reader`. Limits
are checked on what PyAV reads from the headers, before any frame is decoded.
"""

import contextlib
import io
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import av
import av.error
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from dfpipe.child import allow
from dfpipe.config import LimitsConfig
from dfpipe.errors import CorruptMedia, TooLargeMedia, UnsupportedMedia, choose
from dfpipe.preprocess.containers import HEAD_BYTES, sniff
from dfpipe.preprocess.ffmpeg import bound_blocks
from dfpipe.preprocess.timeline import Timeline
from dfpipe.types import Frame, Image, VideoInfo

MAX_IN_MEMORY = 1 << 28  # bytes of a picture's file that is read at once
BATCH = 8  # frames decoded at a time by decord: 50 MB at 1080p, 200 MB at 4K

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,gif,asf,ogg"
_SPARE_FRAMES = 1000  # that a header may claim beyond twice those in the file, before it is taken for a lie
# Codecs in common use. What is not here is refused before its decoder runs (MagicYUV: CVE-2026-8461).
_CODECS = frozenset(
    [
        "av1",
        "dnxhd",
        "dvvideo",
        "ffv1",
        "flv",
        "flv1",
        "gif",
        "h261",
        "h263",
        "h264",
        "hevc",
        "huffyuv",
        "libaom-av1",
        "libdav1d",
        "libvpx",
        "libvpx-vp9",
        "mjpeg",
        "mpeg1video",
        "mpeg2video",
        "mpeg4",
        "msmpeg4v1",
        "msmpeg4v2",
        "msmpeg4v3",
        "prores",
        "rawvideo",
        "theora",
        "vc1",
        "vp6f",
        "vp8",
        "vp9",
        "wmv1",
        "wmv2",
        "wmv3",
    ]
)
# Codecs in which the decoder can pass over pictures to which no other refers, without a trace in those that it decodes. Not
# HEVC, whose pictures so marked may still be referred to by others of a higher temporal layer (H.265, 7.4.2.2).
_PASSED_OVER = frozenset(["h264", "mpeg1video", "mpeg2video", "mpeg4"])
# Streams with these are seen by decord too, which opens the decoders of all streams to know more of them.
_BESIDE = ("aac", "ac3", "alac", "amr_", "eac3", "flac", "mp2", "mov_text", "mp3", "opus", "pcm_", "vorbis", "wma")
# The demuxer may open nothing but the file that we name: a playlist or concat script must not reach other files. Probing
# must not run a decoder that we refuse.
_OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": _CONTAINERS,
    "codec_whitelist": ",".join(sorted(_CODECS)),
}
_IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_ANIMATED = ("PNG", "WEBP", "TIFF")  # not MPO: the further pictures in a phone's JPEG are other views of the first
_NEW_SUBFILE_TYPE = 254  # tag of TIFF 6.0
_NOT_A_PAGE = 1 | 4  # its bits for a smaller copy of another picture, and for a mask
# What Pillow raises on damaged files, by design or because its code stumbles (a TIFF without dimensions: TypeError).
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)


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


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A picture as it was read."""

    image: Image
    left_out: str  # what else is in the file, "" if nothing


def open_image(source: Path | bytes, limits: LimitsConfig | None = None) -> Image:
    """The picture of `open_still` alone."""
    return open_still(source, limits).image


def open_still(source: Path | bytes, limits: LimitsConfig | None = None) -> Still:
    """Reads a still, upright by its EXIF orientation, as RGB; of an animation or of several pages the first.

    Args:
        source: A file, or the bytes of one.
        limits: What is refused before decoding.

    Raises:
        UnsupportedMedia: Not one of the formats that we read.
        CorruptMedia: It cannot be decoded to the end.
        TooLargeMedia: Over a limit.
    """
    limits = limits or LimitsConfig()
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    check_size(size, limits)
    allow(limits.allowance(size))
    PillowImage.MAX_IMAGE_PIXELS = None  # Pillow only warns up to twice its limit; ours is checked below
    try:
        with PillowImage.open(_in_memory(source, size), formats=_IMAGE_FORMATS) as picture:
            if picture.width * picture.height > limits.image_megapixels * 1e6:
                told = f"a picture of {picture.width} x {picture.height} px is over {limits.named('image_megapixels')}"
                raise TooLargeMedia(told)
            left_out = _other_pictures(picture, limits.animation_frames)
            return Still(np.array(_to_rgb(ImageOps.exif_transpose(picture))), left_out)
    except UnidentifiedImageError as error:
        if sniff(_head(source)) == "image":
            raise CorruptMedia("it begins like a picture and goes on as none") from error
        raise UnsupportedMedia("not a picture of a known format") from error
    except _PILLOW_ERRORS as error:
        raise CorruptMedia(f"the picture cannot be decoded: {error}") from error


def _in_memory(source: Path | bytes, size: int) -> io.BytesIO | Path:
    """What Pillow opens: bytes where they fit, for reading a file takes as much memory as a chunk claims to need."""
    if isinstance(source, Path) and size > MAX_IN_MEMORY:
        return source
    return io.BytesIO(source.read_bytes() if isinstance(source, Path) else source)


def check_size(size: int, limits: LimitsConfig) -> None:
    """Refuses a file by its size, in bytes.

    Raises:
        TooLargeMedia: Over `limits.file_gb`.
    """
    if size > limits.file_gb * 1e9:
        raise TooLargeMedia(f"a file of {size / 1e9:.3g} GB is over {limits.named('file_gb')}")


def _other_pictures(picture: PillowImage.Image, most: int) -> str:
    """Says that a file has more pictures than the first, "" if it has none. Pages of a TIFF are counted up to `most`."""
    if picture.format not in _ANIMATED:
        return ""
    count = _pages(picture, most) if picture.format == "TIFF" else getattr(picture, "n_frames", 1)
    told = f"at least {count}" if picture.format == "TIFF" and count == most else f"{count}"
    return f"the file holds {told} pictures: only the first was looked at" if count > 1 else ""


def _pages(picture: PillowImage.Image, most: int) -> int:
    """The pictures in a TIFF, not its thumbnails and masks. They are a chained list, that may be long or broken."""
    count = 1
    with contextlib.suppress(*_PILLOW_ERRORS):  # EOFError after the last
        for place in range(1, most):
            picture.seek(place)
            count += not int(picture.getexif().get(_NEW_SUBFILE_TYPE, 0)) & _NOT_A_PAGE
    picture.seek(0)
    return count


def _head(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    with source.open("rb") as file:
        return file.read(HEAD_BYTES)


def _to_rgb(picture: PillowImage.Image) -> PillowImage.Image:
    if picture.mode.startswith("I;16"):  # Pillow would clip 16-bit grey instead of scaling it
        grey = np.asarray(picture).astype(np.uint32) >> 8
        return PillowImage.fromarray(grey.astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


# ---- what a clip says of itself -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Headers:
    """What a clip says of itself."""

    info: VideoInfo
    timeline: Timeline
    strange: str = ""  # why decord must not see the file, "" if it may


def probe(path: Path, limits: LimitsConfig) -> Headers:
    """Reads headers and packets, and refuses what is unsupported or over a limit, before anything is decoded.

    Raises:
        MediaError: As for `open_video`.
    """
    check_size(path.stat().st_size, limits)
    bound_blocks(limits.frame_megapixels)
    with _open_container(path) as container:
        if len(container.streams) > limits.streams:
            raise TooLargeMedia(f"{len(container.streams)} streams are over {limits.named('streams')}")
        stream = container.streams.best("video")
        if stream is None:
            raise UnsupportedMedia("it has no picture stream")
        context = stream.codec_context
        if context is None or context.name not in _CODECS:
            raise UnsupportedMedia(f"codec {context.name if context else 'unknown'} is not one that dfpipe decodes")
        if context.width * context.height > limits.frame_megapixels * 1e6:
            told = f"frames of {context.width} x {context.height} px are over {limits.named('frame_megapixels')}"
            raise TooLargeMedia(told)
        animation = context.name == "gif"  # however long, only its first pictures are looked at
        duration = container.duration / av.time_base if container.duration else None
        if duration and duration > limits.duration_s and not animation:
            raise TooLargeMedia(f"{duration:.0f} s are over {limits.named('duration_s')}")
        info = VideoInfo(
            width=context.width,
            height=context.height,
            fps=float(stream.average_rate) if stream.average_rate else None,
            frame_count=stream.frames or None,
            duration_s=duration,
            codec=stream.codec.canonical_name,
        )
        if animation:
            timeline = _animation(_timeline(container, stream, info.fps, limits.animation_frames), info, limits)
        else:
            timeline = _timeline(container, stream, info.fps, sys.maxsize)
        strange = timeline.left_out or _overstated(info, timeline) or _strange_stream(container)
    if not timeline.times:
        raise CorruptMedia("no picture data can be read from it")
    return Headers(info, timeline, strange)


def _overstated(info: VideoInfo, timeline: Timeline) -> str:
    """Memory is set aside by decord for every frame that is claimed; where there is not enough, its process is aborted."""
    there = len(timeline.times) + timeline.hidden
    claimed = info.frame_count or 0
    return f"{claimed} frames are claimed and {there} are there" if claimed > 2 * there + _SPARE_FRAMES else ""


def _strange_stream(container: Any) -> str:
    """Probing in decord opens the decoder of every stream, whichever is asked for: names one outside of our lists."""
    for stream in container.streams:
        context = stream.codec_context
        if context is None or context.name in _CODECS or context.codec.canonical_name.startswith(_BESIDE):
            continue
        return f"a stream of codec {context.name}"
    return ""


def _animation(timeline: Timeline, info: VideoInfo, limits: LimitsConfig) -> Timeline:
    """The part of a GIF that is looked at."""
    if len(timeline.times) <= limits.animation_frames:
        return timeline
    many = f"an animation of {info.frame_count or 'more'} pictures is over {limits.named('animation_frames')}"
    return timeline.first(limits.animation_frames, f"{many}: only the first were looked at")


def _timeline(container: Any, stream: Any, fps: float | None, most: int) -> Timeline:
    """Lists the frames by their packets: headers over-report, and transport streams report nothing.

    Ends soon after `most` frames.
    """
    stamps: list[tuple[int, bool]] = []
    hidden = unstamped = 0
    with contextlib.suppress(av.error.FFmpegError):
        for packet in container.demux(stream):
            if not packet.size:
                continue
            hidden += packet.is_discard
            unstamped += packet.pts is None
            if packet.pts is not None and not packet.is_discard:
                stamps.append((packet.pts, packet.is_keyframe))
            if len(stamps) + unstamped > most:
                break
    if unstamped or len({stamp for stamp, _ in stamps}) < len(stamps):
        count = len(stamps) + unstamped
        rate = fps or 1.0  # elementary streams carry no times: the frame rate is all there is
        return Timeline(tuple(i / rate for i in range(count)), (), (), hidden)
    stamps.sort()
    start, tick = (stamps[0][0] if stamps else 0), float(stream.time_base or 1)
    return Timeline(
        times=tuple(round((stamp - start) * tick, 6) for stamp, _ in stamps),
        stamps=tuple(stamp for stamp, _ in stamps),
        keyframes=tuple(i for i, (_, key) in enumerate(stamps) if key),
        hidden=hidden,
    )


def _open_container(path: Path) -> Any:
    """Opens the demuxer with its border guards up, and maps its errors to ours."""
    try:
        return av.open(_address(path), options=dict(_OPEN_OPTIONS), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise CorruptMedia(f"no clip can be read from it: {_short(error)}") from error


def _address(path: Path) -> str:
    """The path as FFmpeg must be told it: a relative name such as `concat:a.mp4` would be a protocol for it."""
    return str(path.absolute())


def _short(error: BaseException) -> str:
    """The reason without the path, which the report names already."""
    return getattr(error, "strerror", None) or str(error)


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
            self._video = decord.VideoReader(_address(path), ctx=decord.cpu(0), num_threads=1)
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
        with _open_container(self._path) as container:
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
