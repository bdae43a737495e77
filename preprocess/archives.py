"""Zip archives: what they hold, and the media inside them, read one by one without unpacking the rest.

An archive is untrusted: what is here runs in a child that can be killed, see `dfpipe.preprocess.listings`.
"""

import contextlib
import functools
import io
import lzma
import os
import struct
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from dfpipe.config import LimitsConfig
from dfpipe.errors import CorruptMedia, TooLargeMedia, UnreadableMedia, UnsupportedMedia
from dfpipe.files import TEMPORARY, disk_errors
from dfpipe.preprocess.containers import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from dfpipe.preprocess.tree import inside

MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    IndexError,
)  # what zipfile
# and the unpackers under it raise on damage; bz2 raises an OSError without a number
_PART = 1 << 16  # bytes unpacked at a time; zipfile reads as many ahead, which blurs what an entry truly takes
_SMALL = 10_000_000  # bytes; what unpacks to less may shrink as much as it likes, as a black picture does
BYTES_PER_PIXEL = 8  # an entry may be as large as the largest picture that is read, uncompressed with 16 bits a channel


class _Counted(io.FileIO):
    """A file that counts what is read of it: what an entry truly takes, whatever the archive claims."""

    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        self.bytes_read += len(data)
        return data

    def __del__(self) -> None:
        self.close()  # zipfile leaves files that it did not open itself to the caller


class Archive(zipfile.ZipFile):
    """A zip archive, open for reading."""

    def __init__(self, path: Path) -> None:
        self.file = _Counted(path)
        super().__init__(self.file)
        # Of several entries with one name the first, as in `usable_entries`; zipfile itself would read the last.
        self.first = {info.filename: info for info in reversed(self.infolist())}


def open_zip(path: Path, limits: LimitsConfig) -> Archive:
    """Opens an archive after looking at how much it claims to hold.

    Args:
        path: The archive.
        limits: `archive_entries` bounds how much it may hold.

    Raises:
        UnreadableMedia: The file system refuses.
        CorruptMedia: It is no zip archive, or damaged.
        TooLargeMedia: It has more entries than the limit.
    """
    with _told():
        claimed = _entry_count(path)
        if claimed <= limits.archive_entries:
            archive = Archive(path)
            claimed = len(archive.infolist())  # the claim may have been a lie
            if claimed <= limits.archive_entries:
                return archive
    raise TooLargeMedia(f"{claimed} entries are over {limits.named('archive_entries')}: unpack it")


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


def usable_entries(archive: Archive) -> tuple[dict[str, zipfile.ZipInfo], dict[str, list[str]]]:
    """Usable entries by name with forward slashes, and the others by reason."""
    found: dict[str, zipfile.ZipInfo] = {}
    refused: dict[str, list[str]] = defaultdict(list)
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")  # some Windows archivers write these
        if name.endswith("/") or any(
            part.startswith(".") or part == "__MACOSX" for part in name.split("/") if part != ".."
        ):
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


def first_bytes(archive: Archive, info: zipfile.ZipInfo, count: int) -> bytes:
    """How an entry starts.

    Raises:
        MediaError: As for `read_member`.
    """
    with _told(), archive.open(info) as entry:
        return entry.read(count)


# ---- single entries ------------------------------------------------------------------------------------------------


def read_member(path: Path, member: str, limits: LimitsConfig) -> bytes:
    """Reads one picture of an archive.

    Args:
        path: The archive.
        member: Name of the entry.
        limits: `image_megapixels` and `archive_ratio` bound what an entry may unpack to, so that a zip bomb costs nothing.

    Raises:
        UnreadableMedia: The file system refuses, or the archive changed since it was listed.
        CorruptMedia: The archive or the entry is damaged.
        UnsupportedMedia: The entry is encrypted or packed in a way that Python does not know.
        TooLargeMedia: It unpacks to more than any picture that is read, or to far more than it takes in the archive.
    """
    return b"".join(parts(path, member, limits.image_megapixels * 1e6 * BYTES_PER_PIXEL, limits))


@contextlib.contextmanager
def unpacked(path: Path, member: str, scratch: Path, limits: LimitsConfig) -> Iterator[Path]:
    """One entry of an archive as a file, for as long as it is needed.

    Args:
        path: The archive.
        member: Name of the entry.
        scratch: A folder for it.
        limits: `file_gb` and `archive_ratio` bound what it may unpack to.

    Raises:
        MediaError: As for `read_member`.
        ResourceError: The disk of `scratch` is full, which is not the fault of the entry.
    """
    suffix = Path(member).suffix.lower()
    with disk_errors(scratch):
        folder = tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=scratch)
    with folder as name:
        file = Path(name, f"entry{suffix if suffix in MEDIA_SUFFIXES else ''}")
        with disk_errors(scratch), file.open("wb") as target:
            for part in parts(path, member, limits.file_gb * 1e9, limits):
                target.write(part)
        yield file


def parts(path: Path, member: str, most: float, limits: LimitsConfig) -> Iterator[bytes]:
    """The content of one entry, piece by piece. Of several with one name it is the first, as in `usable_entries`.

    Args:
        path: The archive.
        member: Name of the entry.
        most: Bytes that it may unpack to.
        limits: `archive_ratio` bounds what it may unpack to for its size in the archive.

    Raises:
        MediaError: As for `read_member`. What goes wrong where the pieces are used is not touched.
    """
    with _told():
        stat = path.stat()
        archive = _opened(path, stat.st_mtime_ns, stat.st_size, limits)
        info = archive.first[member]
        _check_size(info.file_size, info.compress_size, most, limits)  # a claim, perhaps a lie
        before, done = archive.file.bytes_read, 0
        with archive.open(info) as entry:
            while part := entry.read(_PART):
                done += len(part)
                _check_size(done, archive.file.bytes_read - before, most, limits)
                yield part


def _check_size(unpacked: int, packed: int, most: float, limits: LimitsConfig) -> None:
    if unpacked > most:
        raise TooLargeMedia(f"it unpacks to more than {most / 1e6:.0f} MB")
    if unpacked > _SMALL and unpacked > limits.archive_ratio * packed:
        raise TooLargeMedia(f"it grows over {limits.named('archive_ratio')} in unpacking, as zip bombs do")


@functools.lru_cache(maxsize=4)
def _opened(path: Path, modified: int, size: int, limits: LimitsConfig) -> Archive:
    """Open archives of this process: listing 18,000 entries takes 0.2 s, too long for each of them."""
    return open_zip(path, limits)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What goes wrong while an archive is read becomes a MediaError."""
    try:
        yield
    except KeyError as error:
        raise UnreadableMedia("it is not in the archive any more") from error
    except RuntimeError as error:  # a password; NotImplementedError, which is one: an unknown compression
        raise UnsupportedMedia(f"it cannot be unpacked: {error}") from error
    except OSError as error:
        if error.errno is None:
            raise CorruptMedia(f"it is damaged ({error})") from error
        raise UnreadableMedia(f"it cannot be read: {error.strerror}") from error
    except _DAMAGE as error:
        raise CorruptMedia(f"it is damaged ({error})") from error
