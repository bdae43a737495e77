"""Pictures inside zip archives, read one by one without unpacking."""

import functools
import zipfile
from pathlib import Path

from dfpipe.config import LimitsConfig
from dfpipe.errors import CorruptMedia, TooLargeMedia, UnreadableMedia, UnsupportedMedia

BYTES_PER_PIXEL = 8  # an entry may be as large as the largest picture that is read, uncompressed with 16 bits a channel


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
    try:
        stat = path.stat()
        archive = _archive(path, stat.st_mtime_ns, stat.st_size)
        with archive.open(member) as entry:
            data = entry.read(most + 1)  # the size that the archive claims may be a lie
    except OSError as error:
        raise UnreadableMedia(f"the archive cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise UnreadableMedia("it is not in the archive any more") from error
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise CorruptMedia(f"damaged in the archive: {error}") from error
    except (RuntimeError, NotImplementedError) as error:
        raise UnsupportedMedia(f"cannot be unpacked: {error}") from error
    if len(data) > most:
        raise TooLargeMedia(f"unpacks to more than {most / 1e6:.0f} MB")
    return data


@functools.lru_cache(maxsize=4)
def _archive(path: Path, modified: int, size: int) -> zipfile.ZipFile:
    """Open archives of this process: listing 18,000 entries takes 0.2 s, too long for each of them."""
    return zipfile.ZipFile(path)
