"""Content types and names."""

import pytest

from dfpipe.preprocess.containers import sniff
from dfpipe.web.media import NAME_CHARS, OTHER, content_type, shown_name


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "video/x-msvideo"),
        (b"\x00\x00\x00\x18ftypisom", "video/mp4"),
        (b"\x00\x00\x00\x14ftypqt  ", "video/quicktime"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "video/webm"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska", "video/x-matroska"),
        (b"GIF89a", "image/gif"),
    ],
)
def test_types_that_browsers_know(head: bytes, expected: str) -> None:
    assert content_type(head) == expected
    assert sniff(head) is not None  # the readers take it too


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<script>alert(1)</script>",
        b"<svg xmlns='http://www.w3.org/2000/svg'>",
        b"%PDF-1.7",
        b"ffconcat",
        b"RIFF",
        b"PK\x03\x04",
    ],
)
def test_all_else_is_only_ever_saved(head: bytes) -> None:
    assert content_type(head) == OTHER


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("a 'clip' ünï.mp4", "a 'clip' ünï.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\clips\\a.mp4", "a.mp4"),
        ("a\x00b\x1b[31m.mp4", "ab[31m.mp4"),
        ("a\r\nb\tc.mp4", "a b c.mp4"),
        ("gpj.\u202e4pm.exe", "gpj.4pm.exe"),  # would be shown backwards
        ("/", "unnamed"),
        ("", "unnamed"),
        ("\u200b", "unnamed"),
    ],
)
def test_names_are_shown_plainly(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_long_names_keep_their_ending() -> None:
    shown = shown_name("x" * 1000 + ".mp4")
    assert len(shown) == NAME_CHARS
    assert shown.endswith("….mp4")
    assert len(shown_name("x" * 1000 + "." + "y" * 1000)) == NAME_CHARS
