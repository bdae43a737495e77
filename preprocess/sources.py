"""What is in this folder, archive or list? Everything that a layout recognises, as labelled items, and what looks odd."""

import contextlib
import hashlib
import os
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dfpipe.config import LimitsConfig
from dfpipe.errors import MediaError, SourceError, choose
from dfpipe.files import sha256_file
from dfpipe.names import printable
from dfpipe.preprocess.layouts import FILES, LAYOUTS
from dfpipe.preprocess.listings import Entry, hashes, listings
from dfpipe.preprocess.tree import SUFFIXES, Found, Tree, joined, some, walk
from dfpipe.types import Label, MediaItem

MAX_HASHED = 20_000  # files that a summary reads in full: minutes on a disk, where all of a large set would take hours
EXPECTED = (
    "DFDC parts (metadata.json beside the clips), the DFDC test set (labels.csv), the DFDC preview (dataset.json), "
    "FaceForensics++ (original_sequences/, manipulated_sequences/), Celeb-DF (Celeb-real/, Celeb-synthesis/), DeepfakeBench "
    "lists (.json; --images), zip archives of stills (--images), or folders named real and fake (also below train/, "
    "validation/, test/); or name a list itself (.csv or .parquet with the columns path and label)"
)


@dataclass(frozen=True)
class Source:
    """One collection, understood."""

    root: Path  # the folder, archive or list
    layout: str
    items: tuple[MediaItem, ...]
    missing: tuple[str, ...] = ()  # named by the dataset's own list, not on disk: usual in a partial download
    notes: tuple[str, ...] = ()  # what looks odd
    kind: str = "videos"  # or "images": what its files are
    dataset: str = ""


def scan(root: Path, kind: str, limits: LimitsConfig | None = None) -> list[Source]:
    """Recognises the collections in a folder, archive or list and their items. Each file goes to one collection at most.

    Args:
        root: A folder, a zip archive of stills, a CSV or parquet list, or a DeepfakeBench JSON list.
        kind: "videos" or "images": which files count.
        limits: What an archive may hold, and what listing one may cost.

    Returns:
        At least one collection. `MediaItem.name` is unique within each dataset. What concerns the whole folder is noted
        with the first.

    Raises:
        SourceError: No such folder, or nothing in it that any layout recognises, or a list with an error.
        ConfigError: Another kind.
    """
    choose(SUFFIXES, kind, "kind of media")
    notes: list[str] = []
    limits = limits or LimitsConfig()
    if os.path.isdir(root):  # Path.is_dir raises where a folder above may not be entered
        found, notes = _recognised(walk(root, kind, limits), kind)
    elif os.path.isfile(root) and root.suffix.lower() in FILES:
        found = FILES[root.suffix.lower()](root, kind, limits)
    elif os.path.lexists(root):
        raise SourceError(f"{root} is not a folder, nor a list or archive ({', '.join(sorted(FILES))})")
    else:
        raise SourceError(f"no such folder: {root}")
    return _sources(found, notes, root, kind, str(root))


def recognised(tree: Tree, kind: str, called: str) -> list[Source]:
    """As `scan`, for files that are listed already.

    Args:
        tree: The files; the lists among them lie below its root.
        kind: "videos" or "images": which files count.
        called: The folder's name for people.
    """
    found, notes = _recognised(tree, kind)
    return _sources(found, notes, tree.root, kind, called)


def _sources(found: Sequence[Found], notes: list[str], root: Path, kind: str, called: str) -> list[Source]:
    notes = notes + [note for one in found if not (one.items or one.missing) for note in one.notes]
    found = [one for one in found if one.items or one.missing]
    if not found:
        seen = f" ({'; '.join(notes[:3])})" if notes else ""
        raise SourceError(f"nothing usable in {called}{seen}: expected {kind} as {EXPECTED}")
    sources = [Source(f.base, f.layout, f.items, f.missing, f.notes, f.kind, f.dataset) for f in found]
    sources, renamed = _unique_names(sources, root)
    return [replace(sources[0], notes=(*sources[0].notes, *notes, *renamed)), *sources[1:]]


def scan_any(root: Path) -> list[Source]:
    """Recognises clips and stills alike, for whoever wants to know what is there; see `scan`.

    Raises:
        SourceError: Neither of the two is there in a known layout, or a list has an error.
    """
    found: list[Source] = []
    errors: list[SourceError] = []
    for kind in SUFFIXES:
        try:
            found += [source for source in scan(root, kind) if source not in found]  # a DeepfakeBench list is both
        except SourceError as error:
            errors.append(error)
    if not found:
        raise max(
            reversed(errors), key=lambda error: "nothing usable" not in str(error)
        )  # the one that names a fault comes first
    return found


def _recognised(tree: Tree, kind: str) -> tuple[list[Found], list[str]]:
    """All collections of a tree, and what is left over."""
    found: list[Found] = []
    for layout in LAYOUTS.values():
        new = layout(tree, kind)
        found += new
        claimed = [file for one in new for file in one.claimed]
        tree = tree.without(claimed) if claimed else tree
    notes = list(tree.notes)
    if tree.media:
        places = Counter(file.split("/")[0] if "/" in file else "at its top" for file in tree.media)
        where = some([f"{place}: {count}" for place, count in places.most_common()])
        notes.append(f"{len(tree.media)} {kind} in {tree.root} belong to no known layout: left out ({where})")
    return found, notes


def _unique_names(sources: Sequence[Source], root: Path) -> tuple[list[Source], list[str]]:
    """Gives items of equal name in one dataset their path from the scanned folder as name."""
    count = Counter((item.dataset, item.name) for source in sources for item in source.items)
    taken: set[tuple[str, str]] = {key for key, n in count.items() if n == 1}
    if len(taken) == len(count):
        return list(sources), []
    renamed: list[str] = []

    def named(item: MediaItem) -> MediaItem:
        if count[item.dataset, item.name] == 1:
            return item
        path = item.path.relative_to(root).as_posix() if item.path.is_relative_to(root) else item.path.as_posix()
        name = long = joined(path, item.members[0] if item.members else "")
        number = 1
        while (item.dataset, name) in taken:
            number += 1
            name = f"{long}#{number}"
        taken.add((item.dataset, name))
        renamed.append(name)
        return replace(item, name=name)

    result = [replace(source, items=tuple(named(item) for item in source.items)) for source in sources]
    return result, [
        f"{len(renamed)} inputs share a name within their dataset and are named by their path: {some(renamed)}"
    ]


# ---- a summary for people ------------------------------------------------------------------------------------------


def summary(
    sources: Sequence[Source],
    check_content: bool = True,
    max_hashed: int = MAX_HASHED,
    limits: LimitsConfig | None = None,
) -> list[dict[str, Any]]:
    """Counts what the collections hold, as plain data.

    Args:
        sources: From `scan`.
        check_content: Whether to look for the same content twice, which reads files of equal size.
        max_hashed: At most so many files are read for that.
        limits: What reading archives for that may cost.

    Returns:
        Per collection: layout, dataset, kind, root, inputs, labels, methods, splits (each name to count), missing (a
        count), notes, and oddities (what the content says).
    """
    odd = _same_content(sources, max_hashed, limits or LimitsConfig()) if check_content else {}
    return [
        {
            "layout": source.layout,
            "dataset": source.dataset,
            "kind": source.kind,
            "root": str(source.root),
            "inputs": len(source.items),
            "labels": _counts(_label(item) for item in source.items),
            "methods": _counts(item.method or "unknown" for item in source.items if item.label is Label.FAKE),
            "splits": _counts(item.split or "not given" for item in source.items),
            "missing": len(source.missing),
            "notes": list(source.notes),
            "oddities": odd.get(number, []),
        }
        for number, source in enumerate(sources)
    ]


def text(rows: Sequence[Mapping[str, Any]], width: int = 90) -> list[str]:
    """Renders a `summary` for a terminal, in lines of at most `width` columns where words allow it."""
    lines: list[str] = []
    for row in rows:
        lines += _wrapped(
            f"{row['dataset']}: {row['layout']}, {row['inputs']} {row['kind']} in {row['root']}", width, ""
        )
        for name in ("labels", "methods", "splits"):
            counts = ", ".join(f"{count} {what}" for what, count in row[name].items())
            lines += _wrapped(f"{name:<8} {counts}", width, "  ") if counts else []
        lines += [f"  missing  {row['missing']} named by a list but not on disk"] if row["missing"] else []
        for note in [*row["notes"], *row["oddities"]]:
            lines += _wrapped(f"note     {note}", width, "  ")
    return lines


def _wrapped(line: str, width: int, indent: str) -> list[str]:
    below = indent if not indent else indent + " " * 9
    return textwrap.wrap(
        printable(line), width, initial_indent=indent, subsequent_indent=below or "  ", break_on_hyphens=False
    )


def _counts(words: Iterator[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _label(item: MediaItem) -> str:
    return "unknown" if item.label is None else item.label.name.lower()


# ---- the same content twice ----------------------------------------------------------------------------------------


class _Contents:
    """Sizes and hashes of items. Archives are read in children, each once for all the items that it holds."""

    def __init__(self, items: Iterable[MediaItem], limits: LimitsConfig) -> None:
        self._limits = limits
        self._entries: dict[Path, dict[str, Entry]] = {}
        self._hashes: Mapping[tuple[Path, str], str] = {}
        for path, listed in listings((item.path for item in items if _archived(item)), limits).items():
            self._entries[path] = {} if isinstance(listed, MediaError) else {e.member: e for e in listed.entries}

    def size(self, item: MediaItem) -> tuple[int, ...]:
        """What equal contents have in common, without reading any: sizes, and in archives the checksum too."""
        if not item.members:
            return (item.path.stat().st_size,)
        if not _archived(item):
            return tuple((item.path / member).stat().st_size for member in item.members)
        entry = self._entries[item.path][item.members[0]]
        return entry.size, entry.crc

    def hash_archived(self, items: Iterable[MediaItem]) -> None:
        """Reads those of the items that lie in archives."""
        members: dict[Path, list[str]] = defaultdict(list)
        for item in items:
            if _archived(item):
                members[item.path].append(item.members[0])
        self._hashes = hashes(members, self._limits)

    def digest(self, item: MediaItem) -> str:
        """SHA-256 of the content; of archived items after `hash_archived`."""
        if not item.members:
            return sha256_file(item.path)
        if _archived(item):
            return self._hashes[item.path, item.members[0]]
        whole = hashlib.sha256()
        for member in item.members:
            whole.update(sha256_file(item.path / member).encode())
        return whole.hexdigest()


def _archived(item: MediaItem) -> bool:
    """Whether an item lies in an archive; one with several members is a folder of frames."""
    return bool(item.members) and not item.path.is_dir()


def _same_content(sources: Sequence[Source], max_hashed: int, limits: LimitsConfig) -> dict[int, list[str]]:
    """Collection number to what is odd about content that occurs more than once."""
    alike: dict[tuple[int, ...], list[tuple[int, MediaItem]]] = defaultdict(list)
    same: dict[str, list[tuple[int, MediaItem]]] = defaultdict(list)
    unreadable: dict[int, list[str]] = defaultdict(list)
    empty: dict[int, list[str]] = defaultdict(list)
    odd: dict[int, list[str]] = defaultdict(list)
    contents = _Contents([item for source in sources for item in source.items], limits)
    for number, source in enumerate(sources):
        for item in source.items:
            with _noting(unreadable[number], item):
                size = contents.size(item)
                if any(size):
                    alike[size].append((number, item))
                else:  # all empty files are alike, which says nothing of their labels
                    empty[number].append(item.name)
    suspects = [entry for entries in alike.values() if len(entries) > 1 for entry in entries]
    contents.hash_archived([item for _, item in suspects[:max_hashed]])
    for number, item in suspects[:max_hashed]:
        with _noting(unreadable[number], item):
            same[contents.digest(item)].append((number, item))
    _tell(same, odd)
    for what, by_number in (("are empty", empty), ("could not be read and compared", unreadable)):
        for number, names in by_number.items():
            odd[number] += [f"{len(names)} inputs {what}: {some(names)}"] if names else []
    if len(suspects) > max_hashed:
        odd[suspects[0][0]].append(
            f"only {max_hashed} of {len(suspects)} inputs of equal size were compared: there may be more of the same content"
        )
    return odd


@contextlib.contextmanager
def _noting(names: list[str], item: MediaItem) -> Iterator[None]:
    """A file that vanished or cannot be read is named, and does not end the summary."""
    try:
        yield
    except (MediaError, KeyError, OSError):
        names.append(item.name)


def _tell(same: Mapping[str, list[tuple[int, MediaItem]]], odd: dict[int, list[str]]) -> None:
    """Puts the findings into words, the worst first, with the collection of the first input that they are about."""
    kinds: dict[str, dict[int, list[str]]] = {
        "SERIOUS: {} contents have both labels, real and fake: {}": defaultdict(list),
        "SERIOUS: {} contents are in more than one of the publisher's splits: {}": defaultdict(list),
        "{} contents occur more than once: {}": defaultdict(list),
    }
    labels, splits, plain = kinds.values()
    for entries in same.values():
        if len(entries) < 2:
            continue
        first = entries[0][0]
        told = " = ".join(f"{item.dataset}/{item.name}" for _, item in entries[:3])
        plain[first].append(told)
        if len({item.label for _, item in entries if item.label is not None}) > 1:
            labels[first].append(told)
        if len({item.split for _, item in entries if item.split}) > 1:
            splits[first].append(told)
    for sentence, by_number in kinds.items():
        for number, told_ones in by_number.items():
            odd[number].append(sentence.format(len(told_ones), some(told_ones)))
