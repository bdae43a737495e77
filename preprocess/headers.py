"""What a clip says of itself: headers and packets, read by PyAV and checked against limits before anything is decoded."""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error

from dfpipe.config import LimitsConfig
from dfpipe.errors import CorruptMedia, TooLargeMedia, UnsupportedMedia
from dfpipe.preprocess.ffmpeg import bound_blocks
from dfpipe.preprocess.stills import check_size
from dfpipe.preprocess.timeline import Timeline
from dfpipe.types import VideoInfo

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
# Streams with these are seen by decord too, which opens the decoders of all streams to know more of them.
_BESIDE = ("aac", "ac3", "alac", "amr_", "eac3", "flac", "mp2", "mov_text", "mp3", "opus", "pcm_", "vorbis", "wma")
# The demuxer may open nothing but the file that we name: a playlist or concat script must not reach other files. Probing
# must not run a decoder that we refuse.
OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": _CONTAINERS,
    "codec_whitelist": ",".join(sorted(_CODECS)),
}


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
    with open_container(path) as container:
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


def open_container(path: Path) -> Any:
    """Opens the demuxer with its border guards up, and maps its errors to ours."""
    try:
        return av.open(address(path), options=dict(OPEN_OPTIONS), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise CorruptMedia(f"no clip can be read from it: {_short(error)}") from error


def address(path: Path) -> str:
    """The path as FFmpeg must be told it: a relative name such as `concat:a.mp4` would be a protocol for it."""
    return str(path.absolute())


def _short(error: BaseException) -> str:
    """The reason without the path, which the report names already."""
    return getattr(error, "strerror", None) or str(error)
