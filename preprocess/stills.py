"""Read a still: upright, RGB, from a file or from bytes, within limits that are checked before it is decoded."""

import contextlib
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from dfpipe.child import allow
from dfpipe.config import LimitsConfig
from dfpipe.errors import CorruptMedia, TooLargeMedia, UnsupportedMedia
from dfpipe.preprocess.containers import HEAD_BYTES, sniff
from dfpipe.types import Image

MAX_IN_MEMORY = 1 << 28  # bytes of a picture's file that is read at once
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
