"""DeepfakeBench lists (Yan et al. 2023): JSON files that name the frames of each video, on disk as pictures."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dfpipe.errors import SourceError
from dfpipe.preprocess.groups import celeb_original, ff_ids, preview_original, together, whole_groups
from dfpipe.preprocess.lists import SPLITS, read_json
from dfpipe.preprocess.tree import Found, Tree, inside, joined, parent_of, some, walk
from dfpipe.types import Label, MediaItem

_HEAD = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{\s*(?:"(?:train|val|test)"|\})')
_HEAD_BYTES = 4096  # enough for three keys; other JSON files, perhaps one per picture, are not read further


@dataclass(frozen=True, order=True)
class _Video:
    """One entry of a DeepfakeBench list."""

    dataset: str
    label: str
    split: str
    name: str  # label/compression/video
    frames: tuple[str, ...]


def deepfakebench(tree: Tree, kind: str) -> list[Found]:
    """{dataset: {label: {train|val|test: {compression?: {video: {"label", "frames": [...]}}}}}}; also those of DF40.

    The files are pictures, so that the list counts as images. Its authors put a clip into several splits where they use a
    set for testing only, or repeat test as val: such a clip stays in the strictest split that names it.
    """
    found: list[Found] = []
    taken: set[str] = set()
    for path in tree.ending(".json") if kind == "images" else ():
        found += bench_list(tree, path, taken, strict=False)
    return found


def bench_list(tree: Tree, path: str, taken: set[str], *, strict: bool) -> list[Found]:
    """One DeepfakeBench list.

    Args:
        tree: The folder that holds the list and the frames.
        path: The list, in the tree.
        taken: Frames of earlier lists; those of this one are added.
        strict: Whether anything else than such a list is an error.

    Raises:
        SourceError: The list is broken (only if `strict`).
    """
    where = tree.root / path
    try:
        content = read_json(where) if strict or _looks_like_bench(where) else None
    except SourceError as error:
        if strict:
            raise
        return [Found("DeepfakeBench list", where.stem, "images", where, notes=(str(error),))]
    odd: list[str] = []
    videos = list(_videos(content, odd))
    if not videos:
        if strict:
            raise SourceError(f"{where} is no DeepfakeBench list (dataset, label, train|val|test, video, frames)")
        return []
    base, strip = _frames_base(tree, parent_of(path), [f for video in videos for f in video.frames])
    notes = [f"{len(odd)} entries of {where} are not understood: {some(odd)}"] if odd else []
    datasets: dict[str, list[_Video]] = defaultdict(list)
    for video in videos:
        datasets[video.dataset].append(video)
    found = [_collection(tree, where, d, entries, (base, strip), taken) for d, entries in datasets.items()]
    return [replace(found[0], notes=(*notes, *found[0].notes)), *found[1:]]


def _looks_like_bench(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return bool(_HEAD.match(file.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace")))
    except OSError:
        return False


def _videos(content: Any, odd: list[str]) -> Iterator[_Video]:
    """All entries of a list, whatever is wrong with some of them."""
    for dataset, labels in _records(content, odd):
        for label, splits in _records(labels, odd, dataset):
            for split, below in _records(splits, odd, dataset, label):
                for name, video in _records(below, odd, dataset, label, split):
                    if isinstance(video, dict) and "frames" not in video:  # a compression: one level more
                        entries = [(f"{name}/{inner}", v) for inner, v in _records(video, odd, dataset, label, name)]
                    else:
                        entries = [(name, video)]
                    for place, entry in entries:
                        frames = entry.get("frames") if isinstance(entry, dict) else None
                        paths = [_clean(f) for f in frames if isinstance(f, str)] if isinstance(frames, list) else []
                        if split not in SPLITS or not paths or not all(map(inside, paths)):
                            odd.append(f"{dataset}/{label}/{split}/{place}")
                        else:
                            yield _Video(dataset, label, SPLITS[split], f"{label}/{place}", tuple(sorted(set(paths))))


def _records(value: Any, odd: list[str], *keys: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        odd.append("/".join(keys) or "the whole list")
        return []
    return list(value.items())


def _clean(path: str) -> str:
    """Forward slashes, and no root: the list may name places on its author's machine, which are looked for by their end."""
    path = re.sub(r"^(?:[A-Za-z]:)?/+", "", path.replace("\\", "/"))
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _frames_base(tree: Tree, folder: str, frames: Sequence[str]) -> tuple[str, int]:
    """Where frames lie: the folder that they are relative to, and how many leading folders of theirs are not on disk.

    Only folders that all frames share may be absent: the others tell methods apart.
    """
    low, high = min(frames).split("/")[:-1], max(frames).split("/")[:-1]
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    sample = [frames[i * len(frames) // min(len(frames), 500)] for i in range(min(len(frames), 500))]
    above = [folder]
    while above[-1]:
        above.append(parent_of(above[-1]))
    best, best_hits = (folder, 0), 0
    for strip in range(shared + 1):
        tails = [frame.split("/", strip)[strip] for frame in sample]
        firsts = {tail.split("/")[0] for tail in tails}
        others = sorted(
            {"/".join(f.split("/")[:i]) for f in tree.places for i, p in enumerate(f.split("/")) if p in firsts}
        )
        for base in dict.fromkeys([*above, *others[:64]]):  # lists and frames may lie in sister folders
            hits = sum(joined(base, tail) in tree.files for tail in tails)
            if hits > best_hits:
                best, best_hits = (base, strip), hits
    return best


def _collection(
    tree: Tree, where: Path, dataset: str, videos: Sequence[_Video], place: tuple[str, int], taken: set[str]
) -> Found:
    """The items of one dataset of a list."""
    base, strip = place
    entries, notes = _strictest(videos, where)
    group_of = together(_ids(name) for name, _ in entries)
    items: list[MediaItem] = []
    missing: list[str] = []
    claimed: set[str] = set()
    absent = elsewhere = 0
    for name, video in entries:
        files = [joined(base, frame.split("/", strip)[strip]) for frame in video.frames]
        present = [file for file in files if file in tree.files]
        if not present:
            missing.append(f"{dataset}/{name}")
        elif taken.issuperset(present):
            elsewhere += 1
        else:
            items.append(_item(tree, dataset, name, video, present, group_of[_ids(name)[0]]))
            claimed.update(present)
            absent += len(files) - len(present)
    taken |= claimed
    # Pictures beside the listed ones are other frames of the same clips: nobody else's
    beside = {f for folder in {parent_of(f) for f in claimed} for f in tree.folders.get(folder, ())}
    items, moved = whole_groups(items)
    notes += [f"{absent} frames that {where} names are not on disk"] if absent else []
    notes += [f"{elsewhere} videos of {where} belong to a list before it: left out here"] if elsewhere else []
    layout = "DeepfakeBench list"
    return Found(
        layout, dataset, "images", where, tuple(items), tuple(missing), (*notes, *moved), frozenset(claimed | beside)
    )


def _strictest(videos: Sequence[_Video], where: Path) -> tuple[list[tuple[str, _Video]], list[str]]:
    """Each video once, under a name of its own, in the strictest split that names it."""
    order = ("test", "validation", "train")
    kept: dict[tuple[str, tuple[str, ...]], _Video] = {}
    for video in sorted(videos, key=lambda v: order.index(v.split)):
        kept.setdefault((video.name, video.frames), video)
    count = Counter(video.name for video in kept.values())
    named = sorted((v.name if count[v.name] == 1 else f"{v.split}/{v.name}", v) for v in kept.values())
    again = len(videos) - len(kept)
    note = f"{again} entries of {where} repeat a video in another split: it stays in test, or else in validation"
    return named, [note] if again else []


def _item(tree: Tree, dataset: str, name: str, video: _Video, files: Sequence[str], group: str) -> MediaItem:
    folder = os.path.commonpath([parent_of(file) or "." for file in files]).removeprefix(".")
    members = tuple(file[len(folder) + 1 if folder else 0 :] for file in files)
    label = _label(video.label)
    method = video.label if label is Label.FAKE else ""
    return MediaItem(tree.root / folder, name, dataset, label, method, group, video.split, members)


def _label(label: str) -> Label:
    """Labels are such as FF-real, DFDCP_Real, CelebDFv2_fake, FF-DF: what is not called real is a fake."""
    return Label.REAL if "real" in label.lower() and "fake" not in label.lower() else Label.FAKE


def _ids(name: str) -> list[str]:
    """The source clips or actors of a video, by the naming of the dataset that it was taken from."""
    stem = name.rpartition("/")[2]
    if re.fullmatch(r"\d{3}_\d{3}", stem):  # FaceForensics++
        return stem.split("_")
    if re.match(r"\d\d(?:_\d\d)?__", stem):  # DeepFakeDetection
        return ff_ids(stem, "actors")
    if re.fullmatch(r"\d+_\d+_[A-Z]+_\d+", stem):  # DFDC preview
        return [preview_original(stem)]
    return [re.sub(r"_(?:fake|real)$", "", celeb_original(stem))]  # Celeb-DF; UADFV's 0000 and 0000_fake


def bench_file(path: Path, kind: str) -> list[Found]:
    """A DeepfakeBench list that the user names; its frames are looked for in its own folder and below.

    Raises:
        SourceError: It is no such list.
    """
    return bench_list(walk(path.parent, "images"), path.name, set(), strict=True)
