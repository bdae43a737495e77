"""What kind of file is this, by its first bytes. The name of an upload proves nothing.

Only files that open like a known container reach a decoder: playlists and concat scripts, which can make a decoder open
other files, are plain text and end here.
"""

from pathlib import Path

from dfpipe.errors import CorruptMedia, UnreadableMedia, UnsupportedMedia

HEAD_BYTES = 512
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts", ".flv", ".wmv", ".asf"}
    | {".3gp", ".ogv", ".gif"}
)
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"uuid")
_ASF = bytes.fromhex("3026b2758e66cf11")  # first half of the ASF header GUID
_TS_PACKETS = ((0, 188), (4, 192))  # (offset of the sync byte, packet size): plain and Blu-ray transport streams


def sniff(head: bytes) -> str | None:
    """Names the kind of a file from its first `HEAD_BYTES` bytes.

    Returns:
        "image", "video" (an animated GIF counts as one), or None for anything else.
    """
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*")):
        return "image"
    if head[:4] == b"RIFF":
        return {b"WEBP": "image", b"AVI ": "video"}.get(head[8:12])
    if head[4:8] in _MP4_BOXES or _is_transport_stream(head):
        return "video"
    if head.startswith(
        (b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"FLV\x01", b"GIF8", _ASF, b"OggS")
    ):
        return "video"
    return None


def media_kind(path: Path) -> str:
    """Names the kind of a file: "image" or "video".

    Raises:
        UnreadableMedia: The file system refuses.
        CorruptMedia: The file is empty.
        UnsupportedMedia: It is neither a picture nor a clip that we read, whatever its name says.
    """
    try:
        if not path.is_file():
            raise UnreadableMedia("not a regular file" if path.exists() else "no such file")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise UnreadableMedia(f"cannot be read: {error.strerror}") from error
    if not head:
        raise CorruptMedia("the file is empty")
    kind = sniff(head)
    if kind is None:
        raise UnsupportedMedia("not a clip or picture of a known kind, judged by its first bytes")
    return kind


def _is_transport_stream(head: bytes) -> bool:
    return any(
        len(head) > offset + size and head[offset] == 0x47 and head[offset + size] == 0x47
        for offset, size in _TS_PACKETS
    )
