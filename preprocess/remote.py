"""What is in this folder of a store? The same layouts as on a disk, from its listing.

Lists are fetched, clips and stills only when they are worked on, each to a file whose name is ours: the names in a store
come from strangers and need be no names of files.
"""

import itertools
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from dfpipe.config import LimitsConfig
from dfpipe.errors import MediaError, SourceError
from dfpipe.files import disk_errors
from dfpipe.preprocess.lists import MAX_LIST_BYTES
from dfpipe.preprocess.sources import Source, recognised
from dfpipe.preprocess.tree import SUFFIXES, Tree, inside, some
from dfpipe.store import Url, fetch, listing
from dfpipe.types import MediaItem, Origin

_FETCHES = 16  # of lists at a time; they only wait
_NAME_BYTES = 255  # of a file: the most that Linux and macOS take
LISTS = frozenset({".json", ".csv", ".txt"})  # what layouts read of labels, splits and pairs


def scan_url(url: Url, kind: str, limits: LimitsConfig, scratch: Path) -> list[Source]:
    """As `sources.scan`, for a folder in a store.

    Args:
        url: The folder.
        kind: "videos" or "images": which files count.
        limits: What a list may hold.
        scratch: An empty folder of our own, where lists are put, and later the files that are worked on.

    Raises:
        SourceError: No such folder, nothing in it that any layout recognises, or clips that are shipped as frames.
    """
    found = listing(url)
    origins = {name: origin for name, origin in found.items() if _usable(name)}
    hidden = {name for name in found if re.search(r"(^|/)\.[^./]", name)}
    odd = sorted(found.keys() - origins.keys() - hidden)
    notes = [f"{len(odd)} names in {url} cannot be paths of files: left out ({some(odd)})"] if odd else []
    archives = sorted(name for name in origins if name.lower().endswith(".zip")) if kind == "images" else []
    if archives:
        notes.append(f"{len(archives)} archives in {url} are not read from a store: copy them here ({some(archives)})")
    root = scratch / _folder_name(url)
    with disk_errors(scratch):
        root.mkdir()
    _fetch_lists(origins, root, limits)
    tree = Tree(root, SUFFIXES[kind], frozenset(origins).difference(archives), tuple(notes), limits=limits)
    sources = recognised(tree, kind, str(url))
    numbers = iter(range(sum(len(source.items) for source in sources)))
    return [
        replace(
            source,
            items=tuple(_placed(item, origins, root, scratch / f"{next(numbers)}") for item in source.items),
            notes=tuple(note.replace(str(root), str(url)) for note in source.notes),
        )
        for source in sources
    ]


def located(sources: Sequence[Source], scratch: Path) -> list[Source]:
    """Collections with the files that lists name by places in stores: as they are there, or missing.

    Args:
        sources: From `sources.scan`.
        scratch: An empty folder of our own, where the files are put that are worked on.

    Raises:
        SourceError: A place may not be read, or the store does not answer.
    """
    urls = sorted({item.origin.url for source in sources for item in source.items if item.origin is not None})
    with ThreadPoolExecutor(_FETCHES) as threads:
        there = dict(zip(urls, threads.map(_at, urls), strict=True))
    numbers = itertools.count()

    def is_missing(item: MediaItem) -> bool:
        return item.origin is not None and there[item.origin.url] is None

    def found(item: MediaItem) -> MediaItem:
        if item.origin is None:
            return item
        return replace(item, path=scratch / f"{next(numbers)}{item.path.suffix}", origin=there[item.origin.url])

    return [
        replace(
            source,
            items=tuple(found(item) for item in source.items if not is_missing(item)),
            missing=(*source.missing, *(item.name for item in source.items if is_missing(item))),
        )
        for source in sources
    ]


def _at(url: str) -> Origin | None:
    """What lies at one place."""
    return listing(Url(url)).get(Url(url).name)


def _usable(name: str) -> bool:
    """Whether a name in a store can be the path of a file below a folder, and is not hidden."""
    parts = name.split("/")
    return inside(name) and all(0 < len(os.fsencode(part)) <= _NAME_BYTES and part[0] != "." for part in parts)


def _folder_name(url: Url) -> str:
    """What the folder is called: datasets are named by it."""
    name = url.name
    if not _usable(name):
        raise SourceError(f"{url} names no folder")
    return name


def _fetch_lists(origins: dict[str, Origin], root: Path, limits: LimitsConfig) -> None:
    lists = [
        (origin, root / name)
        for name, origin in origins.items()
        if os.path.splitext(name)[1].lower() in LISTS and origin.size <= MAX_LIST_BYTES
    ]
    with disk_errors(root):
        for _, path in lists:
            path.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_FETCHES) as threads:
        done = [threads.submit(fetch, origin, path, limits) for origin, path in lists]
        for (origin, _), future in zip(lists, done, strict=True):
            try:
                future.result()
            except MediaError as error:
                raise SourceError(f"{origin.url} {error}") from error


def _placed(item: MediaItem, origins: dict[str, Origin], root: Path, path: Path) -> MediaItem:
    """The item with where it lies, and a file of its own to be fetched to."""
    if item.members:
        raise SourceError(f"{item.dataset}: clips that are shipped as frames are not read from a store: copy them here")
    name = item.path.relative_to(root).as_posix()
    return replace(item, path=path.with_suffix(item.path.suffix), origin=origins[name])
