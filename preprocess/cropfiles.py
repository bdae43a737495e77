"""Where the picture of a crop lies: in a file of its own, or in a tar file that `packed` wrote."""

import re

SHARDS = "shards"  # the folder of the tar files
_PLACE = re.compile(r"(.*\.tar):(\d+)\+(\d+)", re.S)  # file, offset, size in bytes


def located(path: str) -> tuple[str, int, int | None]:
    """The file in which a crop lies, where it begins, and its size; None = to the end of the file."""
    place = _PLACE.fullmatch(path)
    return (place[1], int(place[2]), int(place[3])) if place else (path, 0, None)


def crop_bytes(path: str) -> bytes:
    """The picture file of a crop, in a file of its own or in a tar file.

    Raises:
        OSError: It is not there.
    """
    file, offset, size = located(path)
    with open(file, "rb") as opened:
        opened.seek(offset)
        return opened.read() if size is None else opened.read(size)
