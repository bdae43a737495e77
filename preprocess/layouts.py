"""How publishers lay out their datasets: a table of recognisers, each of which finds its own collections in a tree.

DFDC (Dolhansky et al. 2020) and its preview (2019), FaceForensics++ (Roessler et al. 2019), Celeb-DF (Li et al. 2020),
DeepfakeBench lists (Yan et al. 2023), archives of stills, and plain folders named real and fake. What is found on disk but
not understood, and what a list names but is not on disk, is reported, never dropped in silence.
"""

import csv
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dfpipe.errors import SourceError
from dfpipe.preprocess.lists import (
    ROW_LABELS,
    SPLITS,
    TABLES,
    Found,
    Pictured,
    Tree,
    default_group,
    inside,
    joined,
    labelled,
    parent_of,
    read_json,
    some,
    stem_of,
    walk,
    whole_groups,
    zip_archive,
)
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


# ---- DFDC ----------------------------------------------------------------------------------------------------------


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
            group = _preview_original(stem_of(name)) if label is Label.FAKE else stem_of(name)
            item = MediaItem(tree.root / base / name, name, "dfdc_preview", label, method, group, split)
            lines.add(joined(base, os.path.normpath(name)), item)
        lines.items, moved = whole_groups(lines.items)
        notes += lines.notes(str(tree.root / path)) + moved
        found += _found("DFDC preview", "dfdc_preview", tree.root / base, lines, notes)
    return found


def _preview_original(stem: str) -> str:
    return stem.split("_", 1)[1] if stem.count("_") >= 3 else stem


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


# ---- FaceForensics++ -----------------------------------------------------------------------------------------------

_FF_KINDS = {"original_sequences": Label.REAL, "manipulated_sequences": Label.FAKE}
_FF_SPLITS = {"train.json": "train", "val.json": "validation", "test.json": "test"}


def faceforensics(tree: Tree, kind: str) -> list[Found]:
    """`{original,manipulated}_sequences/SET/COMPRESSION/videos/NAME.mp4`; one name occurs in every method.

    Group = all source clips or actors that fakes join. Split = the publisher's lists of pairs, where there are any.
    """
    if kind != "videos":
        return []
    found = []
    for base, files in _by_base(tree, _FF_KINDS).items():
        split_of, pairs, notes = _ff_splits(tree, base)
        # SET/COMPRESSION/videos/NAME: masks and whatever else lies there are no clips
        clips = [(path, tail) for path, tail in files if len(tail) == 5 and tail[3] == "videos"]
        group_of = together([*pairs, *(_ff_ids(stem_of(tail[4]), tail[1]) for _, tail in clips)])
        items = []
        for path, tail in clips:
            ids, label = _ff_ids(stem_of(tail[4]), tail[1]), _FF_KINDS[tail[0]]
            method = tail[1] if label is Label.FAKE else ""
            group, split = group_of[ids[0]], split_of.get(ids[0])
            items.append(MediaItem(tree.root / path, "/".join(tail), "faceforensics", label, method, group, split))
        items, moved = whole_groups(items)
        claimed = frozenset(path for path, _ in files)
        place, part = _place(tree, base)
        notes += [*part, *moved]
        found.append(Found("FaceForensics++", "faceforensics", kind, place, tuple(items), (), tuple(notes), claimed))
    return found


def _ff_ids(stem: str, where: str) -> list[str]:
    """The people or source clips that a clip shows: 183_253 is target 183 with source 253; 24_23__scene is two actors."""
    if where in ("actors", "DeepFakeDetection"):
        return [f"actor{int(number)}" for number in re.findall(r"\d+", stem.split("__")[0])] or [stem]
    return stem.split("_")


def _ff_splits(tree: Tree, base: str) -> tuple[dict[str, str], list[list[str]], list[str]]:
    """Source clip to split, the pairs, and notes, from the lists in the collection's folder or in splits/ below it."""
    split_of: dict[str, str] = {}
    pairs: list[list[str]] = []
    notes = []
    for name, split in _FF_SPLITS.items():
        path = next((p for p in (_below(base, name), _below(base, f"splits/{name}")) if p in tree.files), None)
        if path is None:
            continue
        try:
            listed = read_json(tree.root / path)
        except SourceError as error:
            notes.append(f"{error}; without it split {split} is not the publisher's")
            continue
        if not isinstance(listed, list) or not all(isinstance(p, list) and len(p) == 2 for p in listed):
            notes.append(f"{tree.root / path} is no list of pairs: without it split {split} is not the publisher's")
            continue
        pairs += [[str(target), str(source)] for target, source in listed]
        split_of.update({str(clip): split for pair in listed for clip in pair})
    return split_of, pairs, notes


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


def _by_base(tree: Tree, names: Iterable[str]) -> dict[str, list[tuple[str, list[str]]]]:
    """Media below folders of telling names, by the folder over those: (path in the tree, parts from the telling one on).

    The folder that the user names may itself be a telling one; its collection then begins above the tree, at "..".
    """
    known = {name.lower(): name for name in names}
    top = tree.root.resolve().name
    found: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    for path in tree.media:
        parts = [top, *path.split("/")]
        at = next((i for i, part in enumerate(parts[:-1]) if part.lower() in known), None)
        if at is not None:
            base = "/".join(parts[1:at]) if at else ".."
            found[base].append((path, [known[parts[at].lower()], *parts[at + 1 :]]))
    return found


def _below(base: str, name: str) -> str:
    return name if base == "" else f"{base}/{name}"


def _place(tree: Tree, base: str) -> tuple[Path, list[str]]:
    """Where a collection lies, and a note if the user named only a part of it."""
    if base != "..":
        return tree.root / base, []
    return tree.root, [
        f"{tree.root} is a part of a collection: name the folder above it to have the publisher's splits"
    ]


# ---- Celeb-DF ------------------------------------------------------------------------------------------------------

_CELEB_FOLDERS = {"Celeb-real": Label.REAL, "YouTube-real": Label.REAL, "Celeb-synthesis": Label.FAKE}
_CELEB_LIST = "List_of_testing_videos.txt"
_CELEB_LIST_LABELS = {"1": Label.REAL, "0": Label.FAKE}  # the inverse of DFDC's


def celebdf(tree: Tree, kind: str) -> list[Found]:
    """`Celeb-real/`, `YouTube-real/`, `Celeb-synthesis/`, perhaps with videos/ below; a list names the test clips.

    Group = the clip that was altered: `id0_id1_0000` comes of `id0_0000`. The same people appear in many clips and swaps
    join nearly all of them, so that groups by person would leave nothing to divide; a person can therefore appear in two
    splits. The publisher's test clips share originals with clips that are not on the list: those go to test with them.
    """
    if kind != "videos":
        return []
    found = []
    for base, files in _by_base(tree, _CELEB_FOLDERS).items():
        clips = [(path, tail) for path, tail in files if len(tail) == 2 or (len(tail) == 3 and tail[1] == "videos")]
        listed, notes = _celeb_test(tree, _below(base, _CELEB_LIST))
        items = []
        for path, tail in clips:
            label, name = _CELEB_FOLDERS[tail[0]], f"{tail[0]}/{tail[-1]}"
            method = tail[0] if label is Label.FAKE else ""
            group, split = celeb_original(stem_of(name)), "test" if name in listed else None
            items.append(MediaItem(tree.root / path, name, "celebdf", label, method, group, split))
        contradicted = [i.name for i in items if listed.get(i.name, i.label) is not i.label]
        if contradicted:
            notes.append(f"{len(contradicted)} labels in {_CELEB_LIST} contradict the folder: {some(contradicted)}")
        items, moved = whole_groups(items)
        missing = sorted(set(listed) - {i.name for i in items})
        claimed = frozenset(path for path, _ in files)
        place, part = _place(tree, base)
        notes += [*part, *moved]
        found.append(Found("Celeb-DF", "celebdf", kind, place, tuple(items), tuple(missing), tuple(notes), claimed))
    return found


def celeb_original(stem: str) -> str:
    """The clip that a fake of Celeb-DF was made of; any other name stands for itself."""
    match = re.fullmatch(r"(id\d+)_id\d+_(\d+)", stem)
    return f"{match[1]}_{match[2]}" if match else stem


def _celeb_test(tree: Tree, path: str) -> tuple[dict[str, Label], list[str]]:
    """Name to label of the publisher's test clips."""
    if path not in tree.files:
        return {}, []
    spelling = {folder.lower(): folder for folder in _CELEB_FOLDERS}
    listed: dict[str, Label] = {}
    odd = []
    try:
        text = (tree.root / path).read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        return {}, [f"{tree.root / path} cannot be read ({error.strerror}): no clip is known to be a test clip"]
    for line in filter(str.strip, text.splitlines()):
        number, _, name = line.strip().partition(" ")
        folder, _, file = name.strip().partition("/")
        if number in _CELEB_LIST_LABELS and folder.lower() in spelling and file:
            listed[f"{spelling[folder.lower()]}/{file.rpartition('/')[2]}"] = _CELEB_LIST_LABELS[number]
        else:
            odd.append(line.strip()[:80])
    return listed, [f"{len(odd)} lines of {tree.root / path} are not understood: {some(odd)}"] if odd else []


# ---- DeepfakeBench -------------------------------------------------------------------------------------------------

_BENCH_HEAD = re.compile(
    r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{\s*(?:"(?:train|val|test)"|\})'
)
_BENCH_HEAD_BYTES = 4096  # enough for three keys; other JSON files, perhaps one per picture, are not read further


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
    videos = list(_bench_videos(content, odd))
    if not videos:
        if strict:
            raise SourceError(f"{where} is no DeepfakeBench list (dataset, label, train|val|test, video, frames)")
        return []
    base, strip = _frames_base(tree, parent_of(path), [f for video in videos for f in video.frames])
    notes = [f"{len(odd)} entries of {where} are not understood: {some(odd)}"] if odd else []
    datasets: dict[str, list[_Video]] = defaultdict(list)
    for video in videos:
        datasets[video.dataset].append(video)
    found = [_bench_dataset(tree, where, d, entries, (base, strip), taken) for d, entries in datasets.items()]
    return [replace(found[0], notes=(*notes, *found[0].notes)), *found[1:]]


def _looks_like_bench(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return bool(_BENCH_HEAD.match(file.read(_BENCH_HEAD_BYTES).decode("utf-8-sig", errors="replace")))
    except OSError:
        return False


def _bench_videos(content: Any, odd: list[str]) -> Iterator[_Video]:
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


def _bench_dataset(
    tree: Tree, where: Path, dataset: str, videos: Sequence[_Video], place: tuple[str, int], taken: set[str]
) -> Found:
    """The items of one dataset of a list."""
    base, strip = place
    entries, notes = _strictest(videos, where)
    group_of = together(_bench_ids(name) for name, _ in entries)
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
            items.append(_bench_item(tree, dataset, name, video, present, group_of[_bench_ids(name)[0]]))
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


def _bench_item(tree: Tree, dataset: str, name: str, video: _Video, files: Sequence[str], group: str) -> MediaItem:
    folder = os.path.commonpath([parent_of(file) or "." for file in files]).removeprefix(".")
    members = tuple(file[len(folder) + 1 if folder else 0 :] for file in files)
    label = _bench_label(video.label)
    method = video.label if label is Label.FAKE else ""
    return MediaItem(tree.root / folder, name, dataset, label, method, group, video.split, members)


def _bench_label(label: str) -> Label:
    """Labels are such as FF-real, DFDCP_Real, CelebDFv2_fake, FF-DF: what is not called real is a fake."""
    return Label.REAL if "real" in label.lower() and "fake" not in label.lower() else Label.FAKE


def _bench_ids(name: str) -> list[str]:
    """The source clips or actors of a video, by the naming of the dataset that it was taken from."""
    stem = name.rpartition("/")[2]
    if re.fullmatch(r"\d{3}_\d{3}", stem):  # FaceForensics++
        return stem.split("_")
    if re.match(r"\d\d(?:_\d\d)?__", stem):  # DeepFakeDetection
        return _ff_ids(stem, "actors")
    if re.fullmatch(r"\d+_\d+_[A-Z]+_\d+", stem):  # DFDC preview
        return [_preview_original(stem)]
    return [re.sub(r"_(?:fake|real)$", "", celeb_original(stem))]  # Celeb-DF; UADFV's 0000 and 0000_fake


def bench_file(path: Path, kind: str) -> list[Found]:
    """A DeepfakeBench list that the user names; its frames are looked for in its own folder and below.

    Raises:
        SourceError: It is no such list.
    """
    return bench_list(walk(path.parent, "images"), path.name, set(), strict=True)


# ---- archives and folders ------------------------------------------------------------------------------------------


def archives(tree: Tree, kind: str) -> list[Found]:
    """Zip archives of stills; a damaged one is noted, and does not keep the others from being read."""
    found = []
    for path in tree.ending(".zip") if kind == "images" else ():
        above = [tree.root.resolve().name, *path.split("/")[:-1]]
        try:
            found += zip_archive(tree.root / path, kind, above)
        except SourceError as error:
            found.append(Found("zip of stills", stem_of(path), kind, tree.root / path, notes=(str(error),)))
    return found


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


LAYOUTS: Mapping[
    str, Callable[[Tree, str], list[Found]]
] = {  # in this order: each file goes to the first that claims it
    "dfdc_test": dfdc_test,
    "dfdc": dfdc,
    "dfdc_preview": dfdc_preview,
    "faceforensics": faceforensics,
    "celebdf": celebdf,
    "deepfakebench": deepfakebench,
    "archives": archives,
    "folders": folders,
}
FILES: Mapping[str, Callable[[Path, str], list[Found]]] = {**TABLES, ".json": bench_file}
