"""Zip archives: what they hold, and the pictures inside them, read one by one without unpacking."""

import contextlib
import functools
import os
import struct
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dfpipe.config import LimitsConfig
from dfpipe.errors import CorruptMedia, SourceError, TooLargeMedia, UnreadableMedia, UnsupportedMedia
from dfpipe.files import TEMPORARY
from dfpipe.preprocess.tree import inside

MAX_ZIP_ENTRIES = (
    2_000_000  # ten times the largest set of stills in use (190,000); each entry costs about 1 kB of memory
)
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, ValueError, EOFError, RuntimeError)  # what zipfile
# raises on damage, on a password (RuntimeError) and on an unknown compression (NotImplementedError, a RuntimeError)
_PART = 1 << 20  # bytes unpacked at a time
BYTES_PER_PIXEL = 8  # an entry may be as large as the largest picture that is read, uncompressed with 16 bits a channel


def open_zip(path: Path) -> zipfile.ZipFile:
    """Opens an archive after looking at how much it claims to hold.

    Raises:
        SourceError: It is no zip archive, damaged, or has more than `MAX_ZIP_ENTRIES` entries.
    """
    try:
        claimed = _entry_count(path)
        if claimed <= MAX_ZIP_ENTRIES:
            archive = zipfile.ZipFile(path)
            claimed = len(archive.infolist())  # the claim may have been a lie
            if claimed <= MAX_ZIP_ENTRIES:
                return archive
            archive.close()
    except ZIP_ERRORS as error:
        raise SourceError(f"{path} is not a zip archive or is damaged ({error}): download it again") from error
    raise SourceError(f"{path} has {claimed} entries, more than {MAX_ZIP_ENTRIES}: unpack it")


def _entry_count(path: Path) -> int:
    """The number of entries as the end record states it (APPNOTE.TXT 4.3.14 and 4.3.16), before anything is loaded."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - 65_557 - 76))  # a comment has at most 65,535 bytes; 64-bit records come before
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile(f"no table of contents in the last {size - start} bytes")
    count: int = struct.unpack_from("<H", tail, end + 10)[0]
    large = tail.rfind(b"PK\x06\x06", 0, end)
    if count == 0xFFFF and large >= 0:
        count = struct.unpack_from("<Q", tail, large + 32)[0]
    return count


def usable_entries(archive: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], dict[str, list[str]]]:
    """Usable entries by name with forward slashes, and the others by reason."""
    found: dict[str, zipfile.ZipInfo] = {}
    refused: dict[str, list[str]] = defaultdict(list)
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")  # some Windows archivers write these
        if info.is_dir() or any(part.startswith(".") or part == "__MACOSX" for part in name.split("/") if part != ".."):
            continue  # hidden files are left alone, as on disk; __MACOSX holds the Finder's shadow copies
        if info.flag_bits & 1:
            refused["encrypted"].append(name)
        elif not inside(name):
            refused["outside of the archive"].append(name)
        elif name in found:
            refused["there twice"].append(name)
        else:
            found[name] = info
    return found, refused


def read_member(path: Path, member: str, limits: LimitsConfig) -> bytes:
    """Reads one entry of an archive.

    Args:
        path: The archive.
        member: Name of the entry.
        limits: `image_megapixels` bounds what an entry may unpack to, so that a zip bomb costs nothing.

    Raises:
        UnreadableMedia: The file system refuses, or the archive changed since it was listed.
        CorruptMedia: The archive or the entry is damaged.
        UnsupportedMedia: The entry is encrypted or packed in a way that Python does not know.
        TooLargeMedia: It unpacks to more than any picture that is read.
    """
    most = int(limits.image_megapixels * 1e6 * BYTES_PER_PIXEL)
    with _entry(path, member) as entry:
        data: bytes = entry.read(most + 1)  # the size that the archive claims may be a lie
    if len(data) > most:
        raise TooLargeMedia(f"unpacks to more than {most / 1e6:.0f} MB")
    return data


@contextlib.contextmanager
def unpacked(path: Path, member: str, scratch: Path, limits: LimitsConfig) -> Iterator[Path]:
    """One entry of an archive as a file, for as long as it is needed.

    Args:
        path: The archive.
        member: Name of the entry.
        scratch: A folder for it.
        limits: `file_gb` bounds what it may unpack to.

    Raises:
        MediaError: As for `read_member`.
    """
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=scratch) as folder:
        file = Path(folder, f"entry{Path(member).suffix if Path(member).suffix.isascii() else ''}")
        with file.open("wb") as target, _entry(path, member) as entry:
            for part in iter(lambda: entry.read(_PART), b""):
                if target.tell() + len(part) > limits.file_gb * 1e9:
                    raise TooLargeMedia(f"unpacks to more than {limits.file_gb:g} GB")
                target.write(part)
        yield file


@contextlib.contextmanager
def _entry(path: Path, member: str) -> Iterator[IO[bytes]]:
    """One entry of an archive, open for reading; what goes wrong while it is read becomes a MediaError."""
    try:
        stat = path.stat()
        with _archive(path, stat.st_mtime_ns, stat.st_size).open(member) as entry:
            yield entry
    except OSError as error:
        raise UnreadableMedia(f"the archive cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise UnreadableMedia("it is not in the archive any more") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise CorruptMedia(f"damaged in the archive: {error}") from error
    except RuntimeError as error:  # also NotImplementedError
        raise UnsupportedMedia(f"cannot be unpacked: {error}") from error


@functools.lru_cache(maxsize=4)
def _archive(path: Path, modified: int, size: int) -> zipfile.ZipFile:
    """Open archives of this process: listing 18,000 entries takes 0.2 s, too long for each of them."""
    return zipfile.ZipFile(path)
