"""Multipart bodies to files, without a server."""

import asyncio
import hashlib
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("python_multipart", reason="needs the extra web")

from dfpipe.web.refusal import Refused
from dfpipe.web.uploads import Limits, Receiver, receive

LIMITS = Limits(max_bytes=100_000, max_files=2, min_free_bytes=0, chunk_seconds=0.3, min_rate=1000)
HEADER = "multipart/form-data; boundary=b"


def part(content: bytes, name: str = "files", file: str | None = "a.mp4") -> bytes:
    told = f'form-data; name="{name}"' + (f'; filename="{file}"' if file is not None else "")
    return f"--b\r\nContent-Disposition: {told}\r\n\r\n".encode() + content + b"\r\n"


def fed(folder: Path, body: bytes, piece: int = 1 << 16, limits: Limits = LIMITS) -> Receiver:
    receiver = Receiver(folder, HEADER, limits)
    try:
        for at in range(0, len(body), piece):
            receiver.feed(body[at : at + piece])
        receiver.end()
    except Refused:
        receiver.discard()
        raise
    return receiver


@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 16])
def test_files_arrive_as_they_were_sent_in_pieces_of_any_size(tmp_path: Path, piece: int) -> None:
    contents = [b"", b"\r\n--a\r\n-b\n--b", b"\r\n--c\r\n--" + bytes(range(256)) * 20]  # all but the boundary
    body = b"".join(part(content, file=f"{i}.mp4") for i, content in enumerate(contents))
    receiver = fed(tmp_path, body + b"--b--\r\n", piece, replace(LIMITS, max_files=3))
    assert [file.path.read_bytes() for file in receiver.files] == contents
    assert [file.sha256 for file in receiver.files] == [hashlib.sha256(content).hexdigest() for content in contents]
    assert [file.size for file in receiver.files] == [len(content) for content in contents]
    assert [file.name for file in receiver.files] == ["0.mp4", "1.mp4", "2.mp4"]
    receiver.discard()
    assert not list(tmp_path.iterdir())


def test_names_never_reach_the_disk(tmp_path: Path) -> None:
    receiver = fed(tmp_path, part(b"x", file="../../evil.mp4") + part(b"y", file="/etc/passwd") + b"--b--\r\n")
    assert [file.name for file in receiver.files] == ["evil.mp4", "passwd"]
    assert {path.parent for path in tmp_path.rglob("*")} == {tmp_path}
    assert all(path.name.startswith(".tmp-") for path in tmp_path.iterdir())


def test_what_a_browser_sends_of_an_empty_field_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(Refused) as no:
        fed(tmp_path, part(b"", file="") + b"--b--\r\n")
    assert no.value.status == 422
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "wanted"), [("true", True), ("1", True), ("on", True), ("", False), ("False", False), ("0", False)]
)
def test_an_overlay_is_asked_for(tmp_path: Path, value: str, wanted: bool) -> None:
    receiver = fed(tmp_path, part(value.encode(), "overlay", None) + part(b"x") + b"--b--\r\n")
    assert receiver.end() is wanted


@pytest.mark.parametrize(
    ("status", "code", "body"),
    [
        (413, "too_big", part(bytes(100_001)) + b"--b--\r\n"),
        (413, "too_many_files", part(b"x") * 3 + b"--b--\r\n"),
        (413, "too_big", part(bytes(70_000), "other", None) + b"--b--\r\n"),
        (400, "bad_form", b"no form"),
        (400, "bad_form", b"--b\r\n" + b"X: y\r\n" * 100),
        (400, "bad_form", b"--b\r\nX: " + bytes(10_000)),
        (400, "cut_form", part(b"x")),
        (400, "cut_form", b""),
        (422, "no_file", part(b"x", "other") + b"--b--\r\n"),
        (422, "no_file", part(b"x", file=None) + b"--b--\r\n"),
        (422, "bad_field", part(b"\xff", "overlay", None) + part(b"x") + b"--b--\r\n"),
    ],
)
def test_bad_forms_are_refused_and_leave_nothing(tmp_path: Path, status: int, code: str, body: bytes) -> None:
    for piece in (1 << 16, 11):
        with pytest.raises(Refused) as no:
            fed(tmp_path, body, piece)
        assert (no.value.status, no.value.code) == (status, code)
        assert not list(tmp_path.iterdir())


def test_a_file_of_just_the_limit_is_taken(tmp_path: Path) -> None:
    assert fed(tmp_path, part(bytes(100_000)) + b"--b--\r\n").files[0].size == 100_000


@pytest.mark.parametrize("header", ["", "text/plain", "multipart/form-data", "multipart/mixed; boundary=b"])
def test_other_bodies_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(Refused) as no:
        Receiver(tmp_path, header, LIMITS)
    assert no.value.status == 415


def test_some_disk_stays_free(tmp_path: Path) -> None:
    with pytest.raises(Refused) as no:
        fed(tmp_path, part(b"x") + b"--b--\r\n", limits=replace(LIMITS, min_free_bytes=1 << 60))
    assert no.value.status == 507
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """The system refuses to write more than 50,000 bytes to a file, as it does on a full disk."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from dfpipe.web.refusal import Refused\n"
        "from dfpipe.web.uploads import Limits, Receiver\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        f"receiver = Receiver(Path(sys.argv[1]), {HEADER!r}, Limits(100_000, 2, 0, 1.0, 1000))\n"
        "try:\n"
        f"    receiver.feed({part(b'')[:-2]!r} + bytes(90_000))\n"
        "    receiver.feed(b'\\r\\n--b--\\r\\n')\n"
        "except Refused as no:\n"
        "    receiver.discard()\n"
        "    print(no.status, no.code)\n"
    )
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["507", "disk_full"]
    assert not list(tmp_path.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 50_000


def timed(*pieces: tuple[float, bytes]) -> AsyncIterator[bytes]:
    async def stream() -> AsyncIterator[bytes]:
        for wait, piece in pieces:
            await asyncio.sleep(wait)
            yield piece

    return stream()


def test_time_is_limited(tmp_path: Path) -> None:
    begin = part(b"")[:-2]

    def reason(*pieces: tuple[float, bytes]) -> str:
        receiver = Receiver(tmp_path, HEADER, LIMITS)
        try:
            asyncio.run(receive(timed(*pieces), receiver, LIMITS))
        except Refused as no:
            return no.code
        finally:
            receiver.discard()
        return ""

    assert reason((0, begin), (0.1, b"x"), (0.1, b"\r\n--b--\r\n")) == ""
    assert reason((0, begin), (0.6, b"\r\n--b--\r\n")) == "too_slow"  # a pause
    assert reason((0, begin), *[(0.1, b"x")] * 20) == "too_slow"  # a trickle
    assert reason((0, begin), *[(0.1, bytes(1000))] * 6, (0, b"\r\n--b--\r\n")) == ""
    assert not list(tmp_path.iterdir())
