"""Uploads: a multipart body to files, in pieces, within limits. What is not finished leaves nothing behind."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from dfpipe.errors import ResourceError
from dfpipe.files import TEMPORARY, disk_errors
from dfpipe.web.jobs import new_id
from dfpipe.web.media import HEAD_BYTES, content_type, shown_name
from dfpipe.web.refusal import Refused

FILES, OVERLAY = "files", "overlay"  # fields of the form
FIELD_BYTES = 64 * 1024  # of all that is no file: nobody needs more for "true"
LOOK_EVERY_BYTES = 16 * 1024 * 1024  # between two looks at how much disk is left
YES = ("true", "1", "on", "yes")
NO = ("false", "0", "off", "no", "")


@dataclass(frozen=True)
class Limits:
    """What one request may bring."""

    max_bytes: int  # of one file
    max_files: int
    min_free_bytes: int  # of disk that are left free
    chunk_seconds: float  # for which nothing may come
    min_rate: int  # bytes/s, after the first `chunk_seconds`

    @property
    def body_bytes(self) -> int:
        """What a whole body can have at most."""
        return self.max_files * (self.max_bytes + FIELD_BYTES)


@dataclass(frozen=True)
class Received:
    """One file that came whole. Its name is for reading only."""

    path: Path
    name: str
    size: int  # bytes
    sha256: str
    content_type: str


class Receiver:
    """Takes a multipart body in pieces.

    Args:
        folder: Files are written there under random names.
        header: The request's Content-Type.
        limits: What it may bring.

    Raises:
        Refused: 415 where the body is no multipart form.
    """

    def __init__(self, folder: Path, header: str, limits: Limits) -> None:
        kind, options = parse_options_header(header)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Refused(415, "not_multipart", f"send the files as multipart/form-data, in the field {FILES!r}")
        self._folder, self._limits = folder, limits
        self.files: list[Received] = []
        self._value: bytearray | None = None  # of the field `overlay`, while it comes
        self._overlay = b""
        self._part: _Part | None = None
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._headers: dict[str, str] = {}
        self._other_bytes = self._unlooked = 0
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise Refused(400, "bad_form", f"the form cannot be read: {error}") from error

    def feed(self, chunk: bytes) -> None:
        """Takes the next piece.

        Raises:
            Refused: Over a limit, or no form that can be read.
        """
        try:
            with disk_errors(self._folder):
                self._parser.write(chunk)
        except FormParserError as error:
            raise Refused(400, "bad_form", f"the form cannot be read: {error}") from error
        except ResourceError as error:
            raise full_disk() from error

    def end(self) -> bool:
        """Checks that all came. Returns whether overlays are wanted.

        Raises:
            Refused: The body ended too early, brought no file, or a field makes no sense.
        """
        if not self._ended:
            raise Refused(400, "cut_form", "the form ends in the middle: send it again")
        if not self.files:
            raise Refused(422, "no_file", f"there is no file in the form: send one or more in the field {FILES!r}")
        value = self._overlay.decode(errors="replace").strip().lower()
        if value not in YES + NO:
            raise Refused(422, "bad_field", f"the field {OVERLAY!r} takes true or false")
        return value in YES

    def discard(self) -> None:
        """Removes all files that were not taken away."""
        if self._part is not None:
            self._part.close()
            self._part.path.unlink(missing_ok=True)
        for file in self.files:
            file.path.unlink(missing_ok=True)

    # ---- what the parser tells ---------------------------------------------------------------------------------------

    def _on_part_begin(self) -> None:
        self._headers = {}
        self._value = None

    def _on_header_end(self) -> None:
        name, value = (bytes(part).decode("latin-1") for part in self._header)
        self._headers[name.lower()] = value
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        field = options.get(b"name", b"").decode(errors="replace")
        if field == FILES and b"filename" in options:
            if len(self.files) == self._limits.max_files:
                raise Refused(
                    413, "too_many_files", f"there are more than {self._limits.max_files} files: send fewer at once"
                )
            name = options[b"filename"].decode(errors="replace")
            self._part = _Part(self._folder / f"{TEMPORARY}{new_id()}", name)
        elif field == OVERLAY:
            self._value = bytearray()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._part is not None:
            self._look_at_disk(len(piece))
            self._part.write(piece)
            if self._part.size > self._limits.max_bytes:
                raise too_big(self._limits.max_bytes)
            return
        self._other_bytes += len(piece)
        if self._other_bytes > FIELD_BYTES:
            raise Refused(413, "too_big", f"the fields that are no files have more than {FIELD_BYTES} bytes")
        if self._value is not None:
            self._value.extend(piece)

    def _on_part_end(self) -> None:
        if self._value is not None:
            self._overlay = bytes(self._value)
        if self._part is None:
            return
        part, self._part = self._part, None
        received = part.end()
        if part.raw_name or received.size:
            self.files.append(received)
        else:  # what a browser sends of a field in which nothing was chosen
            received.path.unlink()

    def _on_end(self) -> None:
        self._ended = True

    def _look_at_disk(self, size: int) -> None:
        self._unlooked -= size
        if self._unlooked <= 0:
            check_disk(self._folder, size, self._limits.min_free_bytes)
            self._unlooked = LOOK_EVERY_BYTES


class _Part:
    """A file that is coming."""

    def __init__(self, path: Path, raw_name: str) -> None:
        self.path, self.raw_name = path, raw_name
        self.size = 0
        self._head = b""
        self._hash = hashlib.sha256()
        self._file: BinaryIO = path.open("xb")

    def write(self, piece: bytes) -> None:
        """Takes the next piece."""
        self._file.write(piece)
        self._hash.update(piece)
        self.size += len(piece)
        if len(self._head) < HEAD_BYTES:
            self._head += piece[: HEAD_BYTES - len(self._head)]

    def end(self) -> Received:
        """Makes sure that it lies on the disk."""
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        return Received(
            self.path, shown_name(self.raw_name), self.size, self._hash.hexdigest(), content_type(self._head)
        )

    def close(self) -> None:
        """Gives it up."""
        with contextlib.suppress(OSError):  # what could not be written to a full disk is tried once more here
            self._file.close()


async def receive(stream: AsyncIterator[bytes], receiver: Receiver, limits: Limits) -> None:
    """Reads a body to its end, in pieces, none of which may take long.

    Raises:
        Refused: Too slow, or as `Receiver.feed` says.
    """
    begun, got = time.monotonic(), 0
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream, None), limits.chunk_seconds)
        except TimeoutError as error:
            raise Refused(408, "too_slow", f"nothing came for {limits.chunk_seconds:g} s: send it again") from error
        if chunk is None:
            return
        got += len(chunk)
        over = time.monotonic() - begun - limits.chunk_seconds
        if over > 0 and got < over * limits.min_rate:
            raise Refused(
                408, "too_slow", f"less than {limits.min_rate / 1000:g} kB came in a second: send it over a faster line"
            )
        if chunk:
            await run_in_threadpool(receiver.feed, chunk)


def check_disk(folder: Path, size: int, min_free: int) -> None:
    """Refuses what would fill the disk.

    Raises:
        Refused: 507.
    """
    if shutil.disk_usage(folder).free - size < min_free:
        raise full_disk()


def full_disk() -> Refused:
    """The answer where there is no room."""
    return Refused(507, "disk_full", "the disk of the service is full: delete old jobs, or ask who runs it")


def too_big(max_bytes: int) -> Refused:
    """The answer to what is larger than allowed."""
    return Refused(413, "too_big", f"a file may have at most {max_bytes / 1e6:g} MB")
