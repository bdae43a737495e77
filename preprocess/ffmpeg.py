"""FFmpeg's libraries inside the decoders' wheels, asked directly for what the decoders pass no option for."""

import ctypes
import functools
from importlib import metadata

PACKAGES = ("av", "decord2")  # each brings an FFmpeg of its own
_BYTES_PER_PIXEL = 4  # of the widest packed picture below 16 bits a channel: no larger block is needed for a frame
_LEAST = 64_000_000  # bytes; under small limits FFmpeg's own tables must still fit


@functools.cache
def library(package: str, name: str) -> ctypes.CDLL | None:
    """A library such as libavutil that a wheel brings, None where it brings none and uses the system's."""
    for file in metadata.files(package) or []:
        if file.name.startswith(name):
            return ctypes.CDLL(str(file.locate()))
    return None


def bound_blocks(megapixels: float) -> None:
    """Lets FFmpeg allocate no block that only a frame over the limit needs.

    decord has no option for the size of frames, and FFmpeg's probing decodes before it tells the size: a frame of
    16000 x 16000 px, in mid-stream or at the start, took 1.1 GB (measured; 80 MB with this bound). A frame of 8-bit YUV may
    still be four times the limit; PyAV's decoding is bounded exactly by `max_pixels`.

    Args:
        megapixels: The largest frame.
    """
    for package in PACKAGES:
        if (avutil := library(package, "libavutil")) is not None:
            avutil.av_max_alloc(ctypes.c_size_t(max(_LEAST, int(_BYTES_PER_PIXEL * megapixels * 1e6))))


def ffmpeg_version(package: str) -> str:
    """The FFmpeg inside a decoder's wheel, asked of the library itself."""
    avutil = library(package, "libavutil")
    if avutil is None:
        return "of unknown version"
    avutil.av_version_info.restype = ctypes.c_char_p
    return str(avutil.av_version_info().decode())
