"""Files that appear whole or not at all, folders that one run at a time may write, and content hashes."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dfpipe.errors import ResourceError, UnreadableMedia, UsageError

TEMPORARY = ".tmp-"  # prefix of everything unfinished; swept at the next start
SCRATCH = "dfpipe-scratch-"  # prefix of folders among the system's temporary ones
SCRATCH_AGE_S = 60.0  # one that is younger may not have got its lock yet

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that starts so is run by spreadsheets


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to; on success it takes the place of `path` in one step.

    Raises:
        ResourceError: The disk is full; what stood at `path` before is intact.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary folder beside `path` to fill; on success it takes the place of `path` and all that was in it.

    Raises:
        ResourceError: The disk is full; what stood at `path` before is intact.
    """
    temporary, old = (path.with_name(f"{TEMPORARY}{os.getpid()}-{part}{path.name}") for part in ("", "old-"))
    with disk_errors(path.parent):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if path.is_dir():
                path.replace(old)
            temporary.replace(path)
        finally:
            for leftover in (temporary, old):
                shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for what is needed for a moment, empty and gone afterwards.

    It is locked for as long as it is used; what a killed process left is known by its lock being free, and is removed when
    the next folder of this kind is made.

    Raises:
        ResourceError: The disk is full.
    """
    parent = Path(tempfile.gettempdir())
    _sweep_scratch(parent)
    with disk_errors(parent):
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=parent))
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _sweep_scratch(parent: Path) -> None:
    for folder in parent.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):  # of another user, or gone meanwhile
            if time.time() - folder.stat().st_mtime < SCRATCH_AGE_S:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


@contextlib.contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turns the file system's refusals to write under `where` into errors that say what to do.

    Raises:
        ResourceError: The disk or the quota is full.
        UsageError: The folder may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ResourceError(f"no space left in {where}: free some and run the same command again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise UsageError(f"cannot write to {where} ({error.strerror}): choose another --out") from error
        raise


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder` for this run. The lock dies with the process, so nothing stale can stay.

    Raises:
        UsageError: Another run holds it, or it may not be written.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another run is writing to {folder}: wait for it, or choose another --out") from error
        yield


def sweep(folder: Path) -> None:
    """Removes what an interrupted run left half-written directly in `folder`."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def as_text(name: str) -> str:
    """A file name as text that databases and tables can hold: bytes that are no UTF-8 are spelled out, as caf\\xe9."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def as_cell(value: Any) -> Any:
    """A value for a CSV table that spreadsheets take as text, never as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def sha256_file(path: Path) -> str:
    """Content hash of a file, in hexadecimal.

    Raises:
        UnreadableMedia: The file system does not give us the bytes.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableMedia(f"cannot be read: {error.strerror}") from error
