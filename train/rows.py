"""Which rows of a manifest a training may use: checked before the first epoch."""

import hashlib
import logging
import os
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dfpipe.config import FacesConfig, from_mapping, to_mapping
from dfpipe.errors import DataError
from dfpipe.preprocess.cropfiles import located
from dfpipe.preprocess.groups import group_key
from dfpipe.preprocess.manifest import INPUTS, Manifest, read_faces, read_inputs
from dfpipe.preprocess.splits import SPLITS, check_leaks
from dfpipe.train.provenance import trained_on

log = logging.getLogger(__name__)

Rows = Mapping[str, Sequence[int]]  # split -> row numbers

MIXED_SCALES = 1.05  # crops whose scales differ by more than this factor do not look alike to a network
WORST_SHARE = 0.01  # of the crops may be missing or damaged; more is another data set than the manifest says
_LOOKED_AT_ONCE = 1000  # crops: a task of a pool costs as much as a look at one
# How picture files begin and end; a half-written one lacks its end, and a decoder fills it up with grey without a word.
FRAMES = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"))


def training_rows(manifest: Manifest, rows: Rows | None = None) -> dict[str, list[int]]:
    """The rows to train and to validate on, without crops that are missing or damaged.

    Args:
        manifest: Of extracted faces.
        rows: Other rows than those of the manifest's own splits `train` and `validation`.

    Raises:
        DataError: Nothing to train or validate on, one label missing, unlabelled rows, a group on both sides, or more than
            `WORST_SHARE` of the crops missing or damaged.
    """
    chosen = {split: list((rows or {}).get(split, manifest.rows_of(split))) for split in ("train", "validation")}
    for split, members in chosen.items():
        _check_labels(manifest, split, members)
    _check_groups(manifest, chosen)
    bad = _damaged(manifest, [row for members in chosen.values() for row in members])
    kept = {split: [row for row in members if row not in bad] for split, members in chosen.items()}
    for split, members in kept.items():
        _check_labels(manifest, split, members)
    if len(labels := {manifest.columns["label"][row] for row in kept["validation"]}) < 2:
        only = "real" if 0 in labels else "fake"
        log.warning(
            "all crops of split 'validation' are %s: the epoch is chosen by loss alone, and how good the model is cannot be "
            "told; extract more sources",
            only,
        )
    return kept


def _check_labels(manifest: Manifest, split: str, members: Sequence[int]) -> None:
    found = Counter(manifest.columns["label"][row] for row in members)
    if None in found:
        raise DataError(f"{found[None]} crops of split {split!r} have no label: extract from a labelled source")
    if not found:
        raise DataError(
            f"no crops in split {split!r} of {manifest.folder} ({_split_counts(manifest)}): extract more source "
            "clips, or change preprocess.split and extract again"
        )
    if split == "train" and len(found) < 2:
        only = "real" if 0 in found else "fake"
        raise DataError(f"all crops of split 'train' are {only}: training needs both labels; extract more sources")


def _check_groups(manifest: Manifest, rows: Rows) -> None:
    columns = manifest.columns
    used = [(row, split) for split, members in rows.items() for row in members]
    check_leaks(
        [group_key(columns["dataset"][row], columns["group"][row]) for row, _ in used], [split for _, split in used]
    )


def _damaged(manifest: Manifest, rows: Sequence[int]) -> set[int]:
    """Rows without a whole picture on disk: few are left out and counted, many are refused."""
    crops = manifest.columns["crop"]
    parts = [rows[start : start + _LOOKED_AT_ONCE] for start in range(0, len(rows), _LOOKED_AT_ONCE)]
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        look = pool.map(lambda part: [row for row in part if not _is_whole(f"{manifest.folder}/{crops[row]}")], parts)
        bad = [row for found in look for row in found]
    if not bad:
        return set()
    names = ", ".join(str(manifest.path(row)) for row in bad[:3]) + (", ..." if len(bad) > 3 else "")
    told = f"{len(bad)} of {len(rows)} crops are missing or damaged ({names})"
    if len(bad) > WORST_SHARE * len(rows):
        raise DataError(
            f"{told}, more than {WORST_SHARE:.0%}: delete ledger.sqlite beside the manifest and run the same "
            "'dfpipe extract' again"
        )
    log.warning("%s: left out", told)
    return set(bad)


def _is_whole(path: str) -> bool:
    """Whether a file begins and ends like a picture. By bare calls of the system: there may be millions of files."""
    name, start, size = located(path)
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        end = os.fstat(file).st_size if size is None else start + size
        head, tail = os.pread(file, 8, start), os.pread(file, 8, end - 8)
    except OSError:  # also a file of less than 8 bytes
        return False
    finally:
        os.close(file)
    return any(head.startswith(first) and tail.endswith(last) for first, last in FRAMES)


def faces_of(manifest: Manifest, rows: Sequence[int]) -> FacesConfig:
    """How inference must cut its crops to see what training saw.

    Raises:
        DataError: The extraction's config is missing or damaged.
    """
    scales = [manifest.columns["crop_scale"][row] for row in rows]
    if max(scales) > MIXED_SCALES * min(scales):
        log.warning(
            "crops of different framing are mixed (scale %.2f to %.2f): clips will be cut at their median",
            min(scales),
            max(scales),
        )
    faces = to_mapping(read_faces(manifest.folder)) | {"crop_scale": round(statistics.median(scales), 4)}
    return from_mapping(FacesConfig, faces)


def describe(manifest: Manifest, rows: Rows) -> dict[str, Any]:
    """What the model file says of its data."""
    columns = manifest.columns
    lines = sorted(set(zip(columns["dataset"], columns["group"], columns["split"], strict=True)))
    used = {"test": manifest.rows_of("test"), **rows}
    return {
        "datasets": sorted(set(columns["dataset"])),
        "crops": {split: _labels(manifest, used[split]) for split in SPLITS},
        "groups": len({line[:2] for line in lines}),
        "split_fingerprint": _digest(lines),
        "trained_on": _trained_on(manifest, rows["train"]),
    }


def _trained_on(manifest: Manifest, rows: Sequence[int]) -> dict[str, str]:
    """What evaluation needs to refuse groups, and copies of files, that the model has seen."""
    groups, contents = names_of(manifest, rows)
    return trained_on(groups, filter(None, contents))


def names_of(manifest: Manifest, rows: Sequence[int]) -> tuple[list[str], list[str | None]]:
    """The group of each crop, and the SHA-256 of the file that it was cut from, if known: as `trained_on` takes them."""
    columns = manifest.columns
    inputs = read_inputs(manifest.folder) if (manifest.folder / INPUTS).is_file() else []
    digests = {row["media_id"]: row["sha256"] or None for row in inputs}
    groups = [group_key(columns["dataset"][row], columns["group"][row]) for row in rows]
    return groups, [digests.get(columns["media_id"][row]) for row in rows]


def fingerprint(manifest: Manifest, rows: Rows) -> str:
    """One text for exactly these crops in exactly this order with these labels: the same data, the same text."""
    crops, labels = manifest.columns["crop"], manifest.columns["label"]
    return _digest([(split, crops[row], labels[row]) for split in ("train", "validation") for row in rows[split]])


def _digest(lines: Sequence[tuple[Any, ...]]) -> str:
    return hashlib.sha256("\n".join(map(repr, lines)).encode(errors="surrogateescape")).hexdigest()


def _labels(manifest: Manifest, rows: Sequence[int]) -> dict[str, int]:
    found = Counter(manifest.columns["label"][row] for row in rows)
    return {"real": found[0], "fake": found[1]}


def _split_counts(manifest: Manifest) -> str:
    return ", ".join(f"{split} {len(manifest.rows_of(split))}" for split in SPLITS)
