"""Files in a store (S3 and whatever else fsspec knows): listed, fetched by ranges with a bound, put in place whole.

Only here fsspec is known. It is an extra (`dfpipe[store]`); credentials, endpoints and the like are given as its drivers
take them (for S3: the AWS variables and files).
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from dfpipe.config import LimitsConfig
from dfpipe.errors import DfpipeError, ResourceError, SourceError, TooLargeMedia, UnreadableMedia, UsageError
from dfpipe.files import atomic_file, disk_errors
from dfpipe.types import Origin

RANGE_BYTES = 16 << 20  # read at once: a second of a fast line, so that a request's 50 ms do not count; held in memory
REQUESTS = 64  # open at a time at most: more than any part of dfpipe has threads for them
# What drivers are told: S3's own limit is 10 (botocore's max_pool_connections), and the others would wait in line.
_DRIVER: Mapping[str, Mapping[str, Any]] = {"s3": {"config_kwargs": {"max_pool_connections": REQUESTS}}}
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.I)
_MARKS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
)  # by which stores tell that a file is another: the first that is there
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")  # else by its time


@dataclass(frozen=True)
class Url:
    """A place in a store, as s3://bucket/folder."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> "Url":
        return Url(f"{self.text}/{name}")

    @property
    def name(self) -> str:
        """Its last part."""
        return self.text.rstrip("/").rpartition("/")[2]


def place(word: str) -> Path | Url:
    """What a person typed: a path, also as file://, or a place in a store."""
    if word.lower().startswith("file://"):
        return Path(word[len("file://") :])
    return Url(word.rstrip("/")) if _URL.match(word) else Path(word)


def listing(url: Url) -> dict[str, Origin]:
    """All files below a place, by their path from it; the file itself, by its name, if it is one.

    Raises:
        SourceError: There is no such place, it may not be read, or the store does not answer.
        UsageError: Nothing is installed that knows this kind of store.
    """
    fs, root = _opened(url)
    with _told(f"{url} cannot be listed", SourceError, "check the name, the credentials and the network"):
        found: Mapping[str, Mapping[str, Any]] = fs.find(root, detail=True)
    scheme = url.text.partition("://")[0]
    origins = {}
    for full, facts in found.items():
        name = full[len(root) :].lstrip("/") if full != root else url.name
        if facts.get("type", "file") == "file" and not full.endswith("/"):
            origins[name] = Origin(
                f"{scheme}://{full.removeprefix(f'{scheme}://')}", int(facts["size"] or 0), _stamp(facts)
            )
    return origins


def fetch(origin: Origin, path: Path, limits: LimitsConfig, stop: Event | None = None) -> None:
    """Copies a file to `path` as `copy` does, if it is not too large, and sees that it is still the one that was listed.

    Args:
        origin: The file, as it was listed.
        path: Where to; what is there is overwritten.
        limits: What is refused.
        stop: Ends it between two ranges when set.

    Raises:
        TooLargeMedia: Over `limits.file_gb`; nothing is read then.
        UnreadableMedia: It cannot be had, or is not any more what was listed.
        ResourceError: The disk of `path` is full.
    """
    if origin.size > limits.file_gb * 1e9:
        raise TooLargeMedia(f"a file of {origin.size / 1e9:.3g} GB is over {limits.named('file_gb')}")
    copy(origin, path, stop)
    fs, root = _opened(Url(origin.url))
    with _told("cannot be fetched", UnreadableMedia, "run again"):
        now = fs.info(root)
    if (int(now["size"] or 0), _stamp(now)) != (origin.size, origin.stamp):
        raise UnreadableMedia("was changed since it was listed: run again")


def copy(origin: Origin, path: Path, stop: Event | None = None) -> None:
    """Copies a file to `path`, in ranges, and never more than its listed size.

    Whether it has become another file of the same size, `listing` tells afterwards, for a thousand files at a request.

    Args:
        origin: The file, as it was listed.
        path: Where to; what is there is overwritten.
        stop: Ends it between two ranges when set.

    Raises:
        UnreadableMedia: It cannot be had, or is of another size.
        ResourceError: The disk of `path` is full.
    """
    fs, root = _opened(Url(origin.url))
    with disk_errors(path.parent), path.open("wb") as file:
        for start in range(0, origin.size, RANGE_BYTES):
            if stop is not None and stop.is_set():
                raise UnreadableMedia("was not fetched to its end: run again")
            end = min(start + RANGE_BYTES, origin.size)
            with _told("cannot be fetched", UnreadableMedia, "run again"):
                data = fs.cat_file(root, start=start, end=end)
            if len(data) != end - start:
                raise UnreadableMedia("was changed while it was fetched: run again")
            file.write(data)


def get(url: Url, path: Path) -> bool:
    """Copies a file that dfpipe wrote to `path`, whole or not at all. False if there is none.

    Raises:
        ResourceError: The store does not give it.
    """
    fs, root = _opened(url)
    with _told(f"{url} cannot be read", ResourceError, "check the network and run again"):
        if not fs.exists(root):
            return False
        with atomic_file(path) as temporary:
            fs.get_file(root, str(temporary))
    return True


def put(path: Path, url: Url) -> None:
    """Copies a file to a store, where it appears whole or not at all (object stores; others as their driver writes).

    Raises:
        ResourceError: The store does not take it.
    """
    fs, root = _opened(url)
    with _told(
        f"{url} cannot be written", ResourceError, "check the name, the credentials and the network, and run again"
    ):
        fs.put_file(str(path), root)


def remove(url: Url) -> None:
    """Removes a file that dfpipe wrote, if it is there.

    Raises:
        ResourceError: The store does not let it go.
    """
    fs, root = _opened(url)
    with _told(f"{url} cannot be removed", ResourceError, "check the credentials and the network, and run again"):
        if fs.exists(root):
            fs.rm_file(root)


def _opened(url: Url) -> tuple[Any, str]:
    """The driver, which keeps no listings: it must see when a file changes; and the place as it spells it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise UsageError(f"{url} is read with fsspec: pip install 'dfpipe[store]'") from error
    try:
        kind = url.text.partition("://")[0].lower()
        fs, root = url_to_fs(url.text, use_listings_cache=False, **_DRIVER.get(kind, {}))
    except ImportError as error:
        raise UsageError(f"{url}: {error}; for S3 pip install 'dfpipe[store]'") from error
    except ValueError as error:
        raise UsageError(f"{url} is no path, and no kind of store that fsspec knows ({error})") from error
    return fs, str(root)


def _stamp(facts: Mapping[str, Any]) -> str:
    """Another text when the file was changed, as far as the store tells."""
    mark = next((facts[name] for name in (*_MARKS, *_TIMES) if facts.get(name)), "")
    return hashlib.sha256(str(mark).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _told(what: str, kind: type[DfpipeError], advice: str) -> Iterator[None]:
    """Turns whatever a driver raises into one of our errors: each has its own kinds, and no common base."""
    try:
        yield
    except DfpipeError:
        raise
    except Exception as error:
        reason = str(error) or os.strerror(getattr(error, "errno", None) or 0)
        raise kind(f"{what} ({type(error).__name__}: {reason}): {advice}") from error
