"""What zip archives hold, found out in children that can be killed: this process parses none of their bytes."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zipfile import ZipInfo

from dfpipe.child import allow
from dfpipe.config import LimitsConfig
from dfpipe.errors import MediaError
from dfpipe.preprocess.archives import MEDIA_SUFFIXES, Archive, first_bytes, open_zip, parts, usable_entries
from dfpipe.preprocess.containers import HEAD_BYTES, sniff
from dfpipe.workers import default_workers, run_all

Job = TypeVar("Job")

HASHED_AT_ONCE = 500  # entries that one child reads before it answers: what a damaged one costs the others


class Entry(NamedTuple):
    """A usable entry of an archive, as the archive describes it."""

    name: str  # with forward slashes
    member: str  # as the archive spells it: what it is opened by
    size: int  # bytes
    crc: int
    media: bool  # named like a clip or picture, or starts like one


@dataclass(frozen=True)
class Listing:
    """What an archive holds."""

    entries: tuple[Entry, ...]  # by name
    refused: dict[str, list[str]]  # reason -> names


def listings(paths: Iterable[Path], limits: LimitsConfig) -> Mapping[Path, Listing | MediaError]:
    """Lists archives.

    Args:
        paths: Archives; none starts no child.
        limits: `archive_entries`, and what listing one may cost.

    Returns:
        Of each its listing, or why it has none.
    """
    found = in_children(list_task, list(dict.fromkeys(paths)), limits)
    return {path: refusal(one) if isinstance(one, MediaError) else one for path, one in found.items()}


def hashes(members: Mapping[Path, Sequence[str]], limits: LimitsConfig) -> Mapping[tuple[Path, str], str]:
    """SHA-256 of entries of archives, as (archive, entry) to hexadecimal. Those that cannot be read are left out."""
    jobs = [
        (path, tuple(names[start : start + HASHED_AT_ONCE]))
        for path, names in members.items()
        for start in range(0, len(names), HASHED_AT_ONCE)
    ]
    found: dict[tuple[Path, str], str] = {}
    for (path, _), result in in_children(hash_task, jobs, limits).items():
        if not isinstance(result, MediaError):
            found |= {(path, name): digest for name, digest in result.items()}
    return found


def in_children(task: Callable[..., Any], jobs: Sequence[Job], limits: LimitsConfig) -> Mapping[Job, Any]:
    """Runs a function over jobs about archives, in processes that can be killed.

    Args:
        task: Module-level function of a job and, by name, `limits`.
        jobs: None starts no child, several share a few.
        limits: What each job may cost, and what the task looks at.

    Returns:
        Job to result, or to the MediaError that says why there is none.

    Raises:
        DfpipeError: The children cannot start.
    """
    if not jobs:
        return {}
    workers = min(len(jobs), default_workers())
    return dict(run_all(partial(task, limits=limits), jobs, setup=_nothing, workers=workers, bounds=limits))


def _nothing() -> None:
    """The set-up of a child that needs none."""


def refusal(error: MediaError) -> MediaError:
    """The same error, of an archive of which nothing can be said."""
    return type(error)(f"the archive cannot be listed: {error}")


# ---- in the child --------------------------------------------------------------------------------------------------


def list_task(path: Path, limits: LimitsConfig) -> Listing:
    """Lists one archive.

    Raises:
        MediaError: As `open_zip`.
    """
    with open_zip(path, limits) as archive:
        usable, refused = usable_entries(archive)
        entries = (
            Entry(name, info.filename, info.file_size, info.CRC, _is_media(archive, info))
            for name, info in sorted(usable.items())
        )
        return Listing(tuple(entries), dict(refused))


def _is_media(archive: Archive, info: ZipInfo) -> bool:
    if os.path.splitext(info.filename)[1].lower() in MEDIA_SUFFIXES:
        return True
    try:
        return sniff(first_bytes(archive, info, HEAD_BYTES)) is not None
    except MediaError:
        return False


def hash_task(job: tuple[Path, tuple[str, ...]], limits: LimitsConfig) -> dict[str, str]:
    """SHA-256 of some entries of an archive, by name; those that cannot be read are left out."""
    path, members = job
    allow(limits.allowance(size=path.stat().st_size))
    found = {}
    for member in members:
        whole = hashlib.sha256()
        with contextlib.suppress(MediaError):
            for part in parts(path, member, limits.file_gb * 1e9, limits):
                whole.update(part)
            found[member] = whole.hexdigest()
    return found
