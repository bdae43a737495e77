"""The files below a folder, walked once, and what a recogniser says of them.

The recognisers in `layouts` look things up in the listing. Names come from strangers: `inside` says whether one can lead
out of the folder that was scanned.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from dfpipe.config import LimitsConfig
from dfpipe.preprocess.containers import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from dfpipe.types import MediaItem

SUFFIXES = {"videos": VIDEO_SUFFIXES, "images": IMAGE_SUFFIXES}


@dataclass(frozen=True)
class Found:
    """One collection as a recogniser sees it."""

    layout: str
    dataset: str
    kind: str  # "videos" or "images": what the files on disk are
    base: Path  # the folder, archive or list that holds it
    items: tuple[MediaItem, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    claimed: frozenset[str] = frozenset()  # files of the tree that are spoken for, used or not


@dataclass(frozen=True)
class Tree:
    """The regular files below a folder, by their path from it with forward slashes."""

    root: Path
    suffixes: frozenset[str]
    files: frozenset[str]
    notes: tuple[str, ...] = ()
    claimed: frozenset[str] = field(default=frozenset())
    limits: LimitsConfig = field(default_factory=LimitsConfig)  # for archives in it

    @cached_property
    def media(self) -> tuple[str, ...]:
        """The clips or stills that no layout has claimed yet, in a fixed order."""
        free = (f for f in self.files - self.claimed if os.path.splitext(f)[1].lower() in self.suffixes)
        return tuple(sorted(free, key=lambda f: f.split("/")))

    @cached_property
    def folders(self) -> Mapping[str, Sequence[str]]:
        """Folder to the unclaimed clips or stills directly in it."""
        found: dict[str, list[str]] = defaultdict(list)
        for file in self.media:
            found[parent_of(file)].append(file)
        return found

    def named(self, name: str) -> list[str]:
        """The files of one name, wherever they lie."""
        return sorted(f for f in self.files if f.endswith(name) and (f == name or f[-len(name) - 1] == "/"))

    def ending(self, suffix: str) -> list[str]:
        """The files of one suffix, wherever they lie."""
        return sorted(f for f in self.files if f.lower().endswith(suffix))

    @cached_property
    def places(self) -> frozenset[str]:
        """All folders that hold files."""
        return frozenset(map(parent_of, self.files))

    def without(self, claimed: Iterable[str]) -> "Tree":
        """The same tree after a layout has claimed its files."""
        return replace(self, claimed=self.claimed.union(claimed))


def walk(root: Path, kind: str, limits: LimitsConfig | None = None) -> Tree:
    """Lists a folder in one pass. Links to folders are not followed; pipes and sockets are no files."""
    files: list[str] = []
    unreadable: list[str] = []
    links: list[str] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = joined(folder, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif _is_file(entry):
                        files.append(path)
                    elif entry.is_symlink() and os.path.isdir(entry.path):
                        links.append(path)
        except OSError as error:
            unreadable.append(f"{folder or root} ({error.strerror})")
    notes = [f"{len(unreadable)} folders cannot be read: {some(unreadable)}"] if unreadable else []
    notes += [f"{len(links)} links to folders are not followed: {some(sorted(links))}"] if links else []
    return Tree(root, SUFFIXES[kind], frozenset(files), tuple(notes), limits=limits or LimitsConfig())


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def joined(*parts: str) -> str:
    """A path with forward slashes; empty parts do not count."""
    return "/".join(part for part in parts if part)


def parent_of(path: str) -> str:
    """The folder part, "" at the top."""
    return path.rpartition("/")[0]


def stem_of(path: str) -> str:
    """The file's name without folder and suffix."""
    return os.path.splitext(path.rpartition("/")[2])[0]


def inside(path: str) -> bool:
    """Whether a name from a list stays in the folder that it is relative to."""
    return bool(path) and not re.match(r"[A-Za-z]:|/", path) and ".." not in path.split("/") and "\0" not in path


def some(names: Sequence[str]) -> str:
    """The first few names, and how many others there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
