"""How publishers lay out their datasets: a table of recognisers, each of which finds its own collections in a tree.

DFDC (Dolhansky et al. 2020) and its preview (2019), FaceForensics++ (Roessler et al. 2019), Celeb-DF (Li et al. 2020),
DeepfakeBench lists (Yan et al. 2023), archives of stills, and plain folders named real and fake. What is found on disk but
not understood, and what a list names but is not on disk, is reported, never dropped in silence.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dfpipe.config import LimitsConfig
from dfpipe.errors import SourceError
from dfpipe.preprocess.bench import bench_file, deepfakebench
from dfpipe.preprocess.dfdc import dfdc, dfdc_preview, dfdc_test
from dfpipe.preprocess.folders import archives, folders, zip_archive
from dfpipe.preprocess.groups import celeb_original, ff_ids, together, whole_groups
from dfpipe.preprocess.lists import read_json, table
from dfpipe.preprocess.tree import Found, Tree, some, stem_of
from dfpipe.types import Label, MediaItem

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
        group_of = together([*pairs, *(ff_ids(stem_of(tail[4]), tail[1]) for _, tail in clips)])
        items = []
        for path, tail in clips:
            ids, label = ff_ids(stem_of(tail[4]), tail[1]), _FF_KINDS[tail[0]]
            method = tail[1] if label is Label.FAKE else ""
            group, split = group_of[ids[0]], split_of.get(ids[0])
            items.append(MediaItem(tree.root / path, "/".join(tail), "faceforensics", label, method, group, split))
        items, moved = whole_groups(items)
        claimed = frozenset(path for path, _ in files)
        place, part = _place(tree, base)
        notes += [*part, *moved]
        found.append(Found("FaceForensics++", "faceforensics", kind, place, tuple(items), (), tuple(notes), claimed))
    return found


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


# ---- all of them ---------------------------------------------------------------------------------------------------

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
FILES: Mapping[str, Callable[[Path, str, LimitsConfig], list[Found]]] = {
    ".csv": lambda path, kind, _: table(path, kind),
    ".parquet": lambda path, kind, _: table(path, kind),
    ".zip": zip_archive,
    ".json": lambda path, kind, _: bench_file(path, kind),
}
