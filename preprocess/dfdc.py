"""The layouts of DFDC (Dolhansky et al. 2020), its test set and its preview (2019)."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfpipe.errors import SourceError
from dfpipe.preprocess.groups import preview_original, whole_groups
from dfpipe.preprocess.lists import ROW_LABELS, SPLITS, read_json
from dfpipe.preprocess.tree import Found, Tree, inside, joined, parent_of, some, stem_of
from dfpipe.types import Label, MediaItem


@dataclass
class _Lines:
    """Collects the lines of a publisher's list while they are looked up on disk."""

    tree: Tree
    items: list[MediaItem] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)  # not understood
    claimed: set[str] = field(default_factory=set)

    def add(self, file: str | None, item: MediaItem) -> None:
        """Takes an item whose file lies at `file` in the tree, or is missing where that is None."""
        if file is None or file not in self.tree.files:
            self.missing.append(item.name)
        elif file not in self.tree.claimed and file not in self.claimed:
            self.items.append(item)
            self.claimed.add(file)

    def notes(self, where: str) -> list[str]:
        """What was not understood."""
        return [f"{len(self.odd)} entries of {where} are not understood: {some(self.odd)}"] if self.odd else []


def dfdc(tree: Tree, kind: str) -> list[Found]:
    """`metadata.json` beside the clips: {"a.mp4": {"label": "FAKE", "original": "b.mp4"}}. Group = the original's name.

    A part may be incomplete, nested as Kaggle's archives unpack, or the sample of 400 clips.
    """
    lines, notes, parts = _Lines(tree), [], []
    for path in tree.named("metadata.json") if kind == "videos" else ():
        entries, note = _entries(tree.root / path, "label")
        notes += note
        if not entries:
            continue
        part = parent_of(path)
        parts.append(part)
        place = (tree.root / part).resolve().name  # the same wherever one points
        lines.odd.clear()
        for file, entry in sorted(entries.items()):
            name = f"{place}/{file}"
            label = ROW_LABELS.get(str(entry["label"]).lower())
            if "/" in file or not inside(file) or label is None:
                lines.odd.append(f"{name}: {str(entry)[:80]}")
                continue
            group = stem_of(str(entry.get("original") or file))
            lines.add(joined(part, file), MediaItem(tree.root / part / file, name, "dfdc", label, group=group))
        unnamed = [f for f in tree.folders.get(part, ()) if f.rpartition("/")[2] not in entries]
        lines.claimed.update(unnamed)
        notes += lines.notes(str(tree.root / path))
        if unnamed:
            where = tree.root / part
            notes.append(f"{len(unnamed)} clips in {where} are not in its metadata.json and have no label: left out")
    base = os.path.commonpath([parent_of(part) or "." for part in parts]) if parts else ""
    return _found("DFDC", "dfdc", tree.root / base, lines, notes)


def dfdc_test(tree: Tree, kind: str) -> list[Found]:
    """`labels.csv` with the columns filename and label (1 = fake), the clips beside it or below videos/ or test/.

    The originals of the test clips are not published: each clip is its own group.
    """
    lines, notes, bases = _Lines(tree), [], []
    for path in tree.named("labels.csv") if kind == "videos" else ():
        rows, note = _label_rows(tree.root / path)
        notes += note
        rows = {file: label for file, label in rows.items() if os.path.splitext(file)[1].lower() in tree.suffixes}
        if not rows:
            continue
        folder = parent_of(path)
        bases.append(folder)
        lines.odd.clear()
        for file, word in sorted(rows.items()):
            label = ROW_LABELS.get(word.lower())
            if "/" in file or not inside(file) or label is None:
                lines.odd.append(f"{file}: {word!r}")
                continue
            places = [joined(folder, below, file) for below in ("", "videos", "test")]
            place = next((p for p in places if p in tree.files), None)
            item = MediaItem(tree.root / (place or file), file, "dfdc_test", label, group=stem_of(file), split="test")
            lines.add(place, item)
        notes += lines.notes(str(tree.root / path))
    return _found("DFDC test", "dfdc_test", tree.root / (bases[0] if len(bases) == 1 else ""), lines, notes)


def _label_rows(path: Path) -> tuple[dict[str, str], list[str]]:
    """File to label as written, empty if the table is something else. A file with two different labels gets neither."""
    rows: dict[str, str] = {}
    contradicted = set()
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            table = csv.DictReader(file)
            if not {"filename", "label"} <= set(table.fieldnames or ()):
                return {}, []
            for row in table:
                name, label = row["filename"] or "", (row["label"] or "").strip()
                if rows.setdefault(name, label) != label:
                    contradicted.add(name)
    except (OSError, csv.Error) as error:
        return {}, [f"{path} cannot be read ({error}): its clips have no label"]
    rows = {name: label for name, label in rows.items() if name not in contradicted}
    return rows, [f"{path} gives two labels to {some(sorted(contradicted))}: left out"] if contradicted else []


def dfdc_preview(tree: Tree, kind: str) -> list[Found]:
    """`dataset.json`: {"method_A/..../x.mp4": {"label": "fake", "set": "train"}}. Method = the first folder.

    Group = the clip that was altered: a fake `<swapped>_<target>_<suffix>_<counter>` comes of `<target>_<suffix>_<counter>`.
    The publisher's sets divide the actors (no face is swapped across them), so that this group never crosses a set. The
    people themselves would be the safer group, but swaps join nearly all people of a set into one group, which leaves
    nothing to divide a set by.
    """
    found = []
    for path in tree.named("dataset.json") if kind == "videos" else ():
        entries, notes = _entries(tree.root / path, "label", "set")
        lines, base = _Lines(tree), parent_of(path)
        for name, entry in sorted(entries.items()):
            label = ROW_LABELS.get(str(entry["label"]).lower())
            split = SPLITS.get(str(entry["set"]).lower())
            if not inside(name) or label is None or split is None:
                lines.odd.append(f"{name}: {str(entry)[:80]}")
                continue
            method = name.split("/")[0] if label is Label.FAKE else ""
            group = preview_original(stem_of(name)) if label is Label.FAKE else stem_of(name)
            item = MediaItem(tree.root / base / name, name, "dfdc_preview", label, method, group, split)
            lines.add(joined(base, os.path.normpath(name)), item)
        lines.items, moved = whole_groups(lines.items)
        notes += lines.notes(str(tree.root / path)) + moved
        found += _found("DFDC preview", "dfdc_preview", tree.root / base, lines, notes)
    return found


def _entries(path: Path, *keys: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """A list that maps names to records with these keys, empty if the file is something else. Broken JSON is noted."""
    try:
        entries = read_json(path)
    except SourceError as error:
        return {}, [f"{error}; what it describes has no label until then"]
    if not isinstance(entries, dict):
        return {}, []
    if not all(isinstance(entry, dict) and set(keys) <= set(entry) for entry in entries.values()):
        return {}, []
    return entries, []


def _found(layout: str, dataset: str, base: Path, lines: _Lines, notes: Sequence[str]) -> list[Found]:
    """One collection, or none if there is nothing to say."""
    if not (lines.items or lines.missing or notes):
        return []
    claimed = frozenset(lines.claimed)
    return [Found(layout, dataset, "videos", base, tuple(lines.items), tuple(lines.missing), tuple(notes), claimed)]
