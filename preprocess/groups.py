"""Which inputs come of one source and must never be divided between splits.

Who the source is stands in a list, or in the name of the file, which each publisher spells in a way of its own.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dfpipe.preprocess.tree import some, stem_of
from dfpipe.types import MediaItem


def default_group(name: str, split: str | None) -> str:
    """Without a list, a fake often bears the name of its real; across a publisher's splits a name proves nothing."""
    return name if split else stem_of(name)


def group_key(dataset: str, group: str) -> str:
    """How a group is spelled wherever groups of several datasets meet."""
    return f"{dataset}: {group}"


def whole_groups(items: Iterable[MediaItem]) -> tuple[list[MediaItem], list[str]]:
    """Keeps a publisher's split from cutting through a source: a group goes whole to the strictest split of its members.

    Returns:
        The items, and a note that says how many were moved.
    """
    items = list(items)
    strictness = {"train": 0, "validation": 1, "test": 2}
    split_of: dict[str, str] = {}
    for item in items:
        if item.split and strictness[item.split] >= strictness[split_of.get(item.group, "train")]:
            split_of[item.group] = item.split
    kept = [replace(item, split=split_of.get(item.group)) for item in items]
    moved = [now.name for before, now in zip(items, kept, strict=True) if before.split != now.split]
    note = (
        f"{len(moved)} inputs share their original with inputs of a stricter split of the publisher's and were moved there, "
        f"so that no source is in two splits; figures on these splits are not the published ones: {some(moved)}"
    )
    return kept, [note] if moved else []


def together(members: Iterable[Sequence[str]]) -> dict[str, str]:
    """Joins ids that occur together, directly or through others. Returns id to group name."""
    parent: dict[str, str] = {}

    def root_of(x: str) -> str:
        parent.setdefault(x, x)
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    for ids in members:
        first = root_of(ids[0])
        for other in ids[1:]:
            parent[root_of(other)] = first
    groups: dict[str, list[str]] = {}
    for x in sorted(parent):
        groups.setdefault(root_of(x), []).append(x)
    return {x: "+".join(ids) if len(ids) < 5 else f"{ids[0]}+{len(ids) - 1}" for ids in groups.values() for x in ids}


def ff_ids(stem: str, where: str) -> list[str]:
    """The people or source clips that a clip shows: 183_253 is target 183 with source 253; 24_23__scene is two actors."""
    if where in ("actors", "DeepFakeDetection"):
        return [f"actor{int(number)}" for number in re.findall(r"\d+", stem.split("__")[0])] or [stem]
    return stem.split("_")


def celeb_original(stem: str) -> str:
    """The clip that a fake of Celeb-DF was made of; any other name stands for itself."""
    match = re.fullmatch(r"(id\d+)_id\d+_(\d+)", stem)
    return f"{match[1]}_{match[2]}" if match else stem


def preview_original(stem: str) -> str:
    """The clip that a fake of the DFDC preview was made of; any other name stands for itself."""
    return stem.split("_", 1)[1] if stem.count("_") >= 3 else stem


def compression_of(name: str) -> str:
    """How strongly a clip was compressed, as FaceForensics++ and those who follow it say by a folder: raw, c0, c23, c40."""
    return next((part for part in name.split("/")[:-1] if re.fullmatch(r"raw|c\d{1,2}", part)), "")
