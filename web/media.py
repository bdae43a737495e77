"""Uploads by their content: which type a browser is told, and how a name is shown."""

import unicodedata

TYPES = ("JPG", "PNG", "WebP", "MP4", "MOV", "AVI", "MKV", "WEBM")  # what is promised; the readers know a few more
HEAD_BYTES = 512
NAME_CHARS = 200
OTHER = "application/octet-stream"  # never shown inside a page

_STARTS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
    b"FLV\x01": "video/x-flv",
    b"OggS": "video/ogg",
    b"\x00\x00\x01\xba": "video/mpeg",
    b"\x00\x00\x01\xb3": "video/mpeg",
    bytes.fromhex("3026b2758e66cf11"): "video/x-ms-wmv",
}
_RIFF = {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
_MATROSKA = b"\x1aE\xdf\xa3"
_MP4_BOXES = (b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")


def content_type(head: bytes) -> str:
    """The media type of a file by its first `HEAD_BYTES` bytes: image/*, video/*, or `OTHER`.

    It decides only how the bytes are sent back; whether they can be judged the readers find out.
    """
    for start, name in _STARTS.items():
        if head.startswith(start):
            return name
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12], OTHER)
    if head.startswith(_MATROSKA):
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head[4:8] == b"ftyp":
        return "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    return "video/quicktime" if head[4:8] in _MP4_BOXES else OTHER


def shown_name(name: str) -> str:
    """A file's name for reading: without its folders, signs that cannot be seen, and endless length."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    seen = "".join(
        " " if c.isspace() else c for c in last if c.isspace() or not unicodedata.category(c).startswith("C")
    )
    cleaned = " ".join(seen.split())
    if len(cleaned) > NAME_CHARS:
        stem, dot, suffix = cleaned.rpartition(".")
        tail = dot + suffix if stem and len(suffix) <= 8 else ""
        cleaned = cleaned[: NAME_CHARS - 1 - len(tail)] + "…" + tail
    return cleaned or "unnamed"
