"""Stills and clips in folders named real and fake, on disk or in an archive."""

import csv
import io
import os
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dfpipe.config import LimitsConfig
from dfpipe.errors import MediaError, SourceError, TooLargeMedia
from dfpipe.preprocess.archives import Archive, first_bytes, open_zip, usable_entries
from dfpipe.preprocess.containers import IMAGE_SUFFIXES
from dfpipe.preprocess.groups import default_group
from dfpipe.preprocess.listings import in_children, refusal
from dfpipe.preprocess.lists import LABELS, MAX_LIST_BYTES, ROW_LABELS, SPLITS, nearest
from dfpipe.preprocess.tree import Found, Tree, joined, parent_of, some, stem_of
from dfpipe.types import Label, MediaItem


@dataclass
class Pictured:
    """What the `metadata.csv` files say of stills: their original, and a label to compare with the folder's."""

    originals: dict[str, str] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def read(self, lines: Iterable[str], folder: str, what: str) -> None:
        """Reads one table with the columns image and original, and perhaps label; any other table is passed over."""
        try:
            table = csv.DictReader(lines)
            if not {"image", "original"} <= set(table.fieldnames or ()):
                return
            for row in table:
                image = joined(folder, row["image"] or "")
                if row["original"]:
                    self.originals[image] = stem_of(row["original"])
                label = ROW_LABELS.get(str(row.get("label")).strip().lower())
                if label is not None:
                    self.labels[image] = label
        except (csv.Error, OSError, ValueError, MediaError) as error:
            self.notes.append(f"{what} cannot be read to its end ({error}): some originals are unknown")


def labelled(files: Iterable[str], above: Sequence[str], say: Pictured) -> Iterator[tuple[str, Label, str | None, str]]:
    """The files that lie in a folder named real or fake.

    Args:
        files: Paths with forward slashes.
        above: The folders over them.
        say: Collects contradictions.

    Yields:
        File, label, split, and the folder over the outermost one with a telling name: the collection's.
    """
    contradicted = []
    for file in files:
        folders = file.split("/")[:-1]
        label = nearest([*above, *folders], LABELS)
        if label is None:
            continue
        if say.labels.get(file, label) is not label:
            contradicted.append(file)
        telling = (i for i, f in enumerate(folders) if f.lower() in LABELS or f.lower() in SPLITS)
        yield file, label, nearest([*above, *folders], SPLITS), "/".join(folders[: next(telling, 0)])
    if contradicted:
        say.notes.append(
            f"{len(contradicted)} labels in metadata.csv contradict the folder, which was believed: {some(contradicted)}"
        )


def folders(tree: Tree, kind: str) -> list[Found]:
    """Clips or stills below folders named real and fake, perhaps below or above train, validation and test.

    Each folder that holds both labels is a collection of its own. What is left (real clips here, fakes there) is one
    collection, because its parts may belong together and a source must not end up in two splits unnoticed.
    """
    say = Pictured()
    for path in tree.named("metadata.csv"):
        try:
            with (tree.root / path).open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
                say.read(file, parent_of(path), str(tree.root / path))
        except OSError as error:
            say.notes.append(f"{tree.root / path} cannot be read ({error.strerror}): originals are unknown")
    by_base: dict[str, list[tuple[str, Label, str | None]]] = defaultdict(list)
    for path, label, split, base in labelled(tree.media, [tree.root.resolve().name], say):
        by_base[base].append((path, label, split))
    rest = [base for base, entries in by_base.items() if len({label for _, label, _ in entries}) < len(Label)]
    if len(rest) > 1:
        common = os.path.commonpath([base or "." for base in rest]).removeprefix(".")
        merged = [entry for base in rest for entry in by_base.pop(base)]
        by_base[common] = [*by_base.get(common, []), *merged]
    return [
        _labelled_collection(tree, kind, base, entries, say, i == 0)
        for i, (base, entries) in enumerate(by_base.items())
    ]


def _labelled_collection(
    tree: Tree, kind: str, base: str, entries: Sequence[tuple[str, Label, str | None]], say: Pictured, first: bool
) -> Found:
    place = tree.root / base
    dataset = place.resolve().name
    items = []
    for path, label, split in sorted(entries):
        name = path[len(base) + 1 if base else 0 :]
        group = say.originals.get(path) or default_group(name, split)
        items.append(MediaItem(tree.root / path, name, dataset, label, group=group, split=split))
    notes = tuple(say.notes) if first else ()
    claimed = frozenset(path for path, _, _ in entries)
    return Found(f"{kind} in real and fake folders", dataset, kind, place, tuple(items), (), notes, claimed)


def archives(tree: Tree, kind: str) -> list[Found]:
    """Zip archives of stills; a damaged one is noted, and does not keep the others from being read."""
    above = tree.root.resolve().name
    jobs = [
        _Stills(tree.root / path, (above, *path.split("/")[:-1]))
        for path in (tree.ending(".zip") if kind == "images" else ())
    ]
    found = in_children(stills_task, jobs, tree.limits)
    return [_noted(job.path, found[job]) for job in jobs]


def _noted(path: Path, found: Found | MediaError) -> Found:
    if isinstance(found, MediaError):
        return Found("zip of stills", path.stem, "images", path, notes=(f"{path}: {refusal(found)}",))
    return found


def zip_archive(path: Path, kind: str, limits: LimitsConfig) -> list[Found]:
    """Stills in a zip archive; only its table of contents is read, in a child that can be killed.

    Args:
        path: The archive.
        kind: "images".
        limits: What it may hold, and what listing it may cost.

    Raises:
        SourceError: The archive is damaged or too large, or clips are wanted of it.
    """
    if kind != "images":
        raise SourceError(
            f"{path}: clips in archives are not read; unpack it, or name it with --images if it holds stills"
        )
    (found,) = in_children(stills_task, [_Stills(path)], limits).values()
    if isinstance(found, MediaError):
        raise SourceError(f"{path}: {refusal(found)}: leave it out, or get it again") from found
    return [found]


# ---- in the child --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stills:
    """An archive of stills on its way to a child."""

    path: Path
    above: tuple[str, ...] = ()  # the folders that it lies in, which may say label or split


def stills_task(job: _Stills, limits: LimitsConfig) -> Found:
    """The labelled stills of one archive.

    Raises:
        MediaError: It cannot be opened.
    """
    path, say = job.path, Pictured()
    with open_zip(path, limits) as archive:
        entries, refused = usable_entries(archive)
        for name, info in entries.items():
            if name.rpartition("/")[2] == "metadata.csv":
                say.read(_text_lines(archive, info), parent_of(name), f"{path}: {name}")
    stills = [name for name in entries if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]
    items = tuple(
        MediaItem(
            path,
            name,
            path.stem,
            label,
            group=say.originals.get(name) or default_group(name, split),
            split=split,
            members=(entries[name].filename,),
        )
        for name, label, split, _ in labelled(sorted(stills), [*job.above, path.stem], say)
    )
    notes = [f"{len(names)} entries of {path} are {why}: left out ({some(names)})" for why, names in refused.items()]
    if len(stills) > len(items):
        notes.append(f"{len(stills) - len(items)} images in {path} lie in no folder named real or fake: left out")
    return Found("zip of stills", path.stem, "images", path, items, (), (*notes, *say.notes))


def _text_lines(archive: Archive, info: zipfile.ZipInfo) -> Iterator[str]:
    text = first_bytes(archive, info, MAX_LIST_BYTES + 1)
    if len(text) > MAX_LIST_BYTES:
        raise TooLargeMedia(f"it is larger than {MAX_LIST_BYTES / 1e6:.0f} MB")
    yield from io.TextIOWrapper(io.BytesIO(text), encoding="utf-8-sig", errors="surrogateescape", newline="")
