"""What is in this folder? A table of dataset layouts; each turns a folder into labelled items.

Layouts as their publishers lay them out: DFDC (Dolhansky et al. 2020), FaceForensics++ (Roessler et al. 2019), and plain
folders named real and fake. Everything found on disk but not understood, and everything named but not on disk, is
reported, never dropped in silence.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfpipe.errors import SourceError
from dfpipe.preprocess.containers import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from dfpipe.types import Label, MediaItem

SUFFIXES = {"videos": VIDEO_SUFFIXES, "images": IMAGE_SUFFIXES}

LABELS = {
    "real": Label.REAL,
    "reals": Label.REAL,
    "original": Label.REAL,
    "training_real": Label.REAL,
    "fake": Label.FAKE,
    "fakes": Label.FAKE,
    "training_fake": Label.FAKE,
}
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Source:
    """One folder, understood."""

    root: Path
    layout: str
    items: tuple[MediaItem, ...]
    missing: tuple[str, ...] = ()  # named by the dataset's own list, not on disk: usual in a partial download
    notes: tuple[str, ...] = field(default=())  # what looks odd


def scan(root: Path, kind: str) -> Source:
    """Recognises the layout of a folder and lists its items.

    Args:
        root: The folder.
        kind: "videos" or "images": which files in it count.

    Raises:
        SourceError: No such folder, or nothing in it that any layout recognises.
    """
    if not root.is_dir():
        raise SourceError(f"{root} is not a folder" if root.exists() else f"no such folder: {root}")
    for layout in LAYOUTS.values():
        source = layout(root, kind)
        if source is not None and (source.items or source.missing):
            return source
    raise SourceError(
        f"nothing usable in {root}: expected {kind} as DFDC parts (metadata.json beside the clips), FaceForensics++ "
        "(original_sequences/, manipulated_sequences/), or in folders named real and fake (also below train/, "
        "validation/, test/)"
    )


def _files(root: Path, suffixes: Iterable[str]) -> list[Path]:
    """Regular files below a folder by suffix, in a fixed order; hidden ones and links to folders are left alone."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )


# ---- DFDC ----------------------------------------------------------------------------------------------------------


def _dfdc(root: Path, kind: str) -> Source | None:
    """`metadata.json` beside the clips: {"a.mp4": {"label": "FAKE", "original": "b.mp4"}}. Group = the original's name."""
    lists = [(path, entries) for path in sorted(root.rglob("metadata.json")) if (entries := _dfdc_list(path))]
    if kind != "videos" or not lists:
        return None
    items: list[MediaItem] = []
    missing: list[str] = []
    notes: list[str] = []
    for path, entries in lists:
        part = path.parent
        for file, entry in sorted(entries.items()):
            name = f"{part.resolve().name}/{file}"
            label = LABELS.get(str(entry.get("label")).lower())
            if Path(file).name != file or label is None:
                notes.append(f"{name}: entry of {path} is not understood: {str(entry)[:80]}")
            elif not (part / file).is_file():
                missing.append(name)
            else:
                group = Path(str(entry.get("original") or file)).stem
                items.append(MediaItem(part / file, name, "dfdc", label, group=group))
        unnamed = [f for f in part.glob("*.mp4") if f.name not in entries]
        if unnamed:
            notes.append(f"{len(unnamed)} clips in {part} are not in its metadata.json and have no label: left out")
    return Source(root, "DFDC", tuple(items), tuple(missing), tuple(notes))


def _dfdc_list(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of a DFDC list, empty if the file is something else."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict) or not all(isinstance(e, dict) and "label" in e for e in entries.values()):
        return {}
    return entries


# ---- FaceForensics++ -----------------------------------------------------------------------------------------------

_FF_KINDS = {"original_sequences": Label.REAL, "manipulated_sequences": Label.FAKE}


def _faceforensics(root: Path, kind: str) -> Source | None:
    """`{original,manipulated}_sequences/SET/COMPRESSION/videos/NAME.mp4`; one name occurs in every method."""
    base = next((c for c in [root, *sorted(root.glob("*/"))] if any((c / k).is_dir() for k in _FF_KINDS)), None)
    if kind != "videos" or base is None:
        return None
    found = [
        (path, label, path.relative_to(base).parts[1])
        for folder, label in _FF_KINDS.items()
        for path in _files(base / folder, VIDEO_SUFFIXES)
        if path.parent.name == "videos" and len(path.relative_to(base).parts) == 5
    ]
    group_of = _joined(_ff_ids(path.stem, where) for path, _, where in found)
    items = tuple(
        MediaItem(
            path,
            path.relative_to(base).as_posix(),
            "faceforensics",
            label,
            method=where if label is Label.FAKE else "",
            group=group_of[_ff_ids(path.stem, where)[0]],
        )
        for path, label, where in found
    )
    return Source(root, "FaceForensics++", items)


def _ff_ids(stem: str, where: str) -> list[str]:
    """The people or source clips that a clip shows: 183_253 is target 183 with source 253; 24_23__scene is two actors."""
    if where in ("actors", "DeepFakeDetection"):
        return [f"actor{int(number)}" for number in re.findall(r"\d+", stem.split("__")[0])] or [stem]
    return stem.split("_")


def _joined(members: Iterable[Sequence[str]]) -> dict[str, str]:
    """Joins ids that occur together, directly or through others. Returns id to group name."""
    parent: dict[str, str] = {}

    def root_of(x: str) -> str:
        parent.setdefault(x, x)
        while parent[x] != x:
            x = parent[x]
        return x

    for ids in members:
        first = root_of(ids[0])
        for other in ids[1:]:
            parent[root_of(other)] = first
    together: dict[str, list[str]] = {}
    for x in sorted(parent):
        together.setdefault(root_of(x), []).append(x)
    return {x: "+".join(ids) if len(ids) < 5 else f"{ids[0]}+{len(ids) - 1}" for ids in together.values() for x in ids}


# ---- folders named real and fake -----------------------------------------------------------------------------------


def _labelled_folders(root: Path, kind: str) -> Source | None:
    """Clips or stills below folders named real and fake, perhaps below train, validation and test."""
    files = _files(root, SUFFIXES[kind])
    originals = _originals(root)
    items = []
    unlabelled = 0
    for path in files:
        above = [root.resolve().name, *path.relative_to(root).parts[:-1]]
        label = _nearest(above, LABELS)
        if label is None:
            unlabelled += 1
            continue
        split = _nearest(above, SPLIT_FOLDERS)
        name = path.relative_to(root).as_posix()
        # Without a list, a fake often bears the name of its real; across the publisher's splits a name proves nothing.
        group = originals.get(path) or (name if split else path.stem)
        items.append(MediaItem(path, name, root.resolve().name, label, group=group, split=split))
    if not items:
        return None
    notes = [f"{unlabelled} {kind} in {root} lie in no folder named real or fake: left out"] if unlabelled else []
    return Source(root, f"{kind} in real and fake folders", tuple(items), (), tuple(notes))


def _nearest(folders: Sequence[str], names: dict[str, Any]) -> Any:
    """What the innermost folder with a telling name says."""
    return next((names[f.lower()] for f in reversed(folders) if f.lower() in names), None)


def _originals(root: Path) -> dict[Path, str]:
    """Source clips of stills, from any `metadata.csv` with the columns image and original."""
    found: dict[Path, str] = {}
    for path in sorted(root.rglob("metadata.csv")):
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            table = csv.DictReader(file)
            if {"image", "original"} <= set(table.fieldnames or ()):
                found.update(
                    {path.parent / row["image"]: Path(row["original"]).stem for row in table if row["original"]}
                )
    return found


LAYOUTS: dict[str, Callable[[Path, str], Source | None]] = {
    "dfdc": _dfdc,
    "faceforensics": _faceforensics,
    "folders": _labelled_folders,
}
