"""Which crops a cross-validation fits, chooses and scores on, fold by fold. Pure, but for a look at the files."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dfpipe.errors import DataError
from dfpipe.preprocess.groups import group_key, together
from dfpipe.preprocess.manifest import Manifest, read_inputs
from dfpipe.preprocess.splits import assign, assign_folds, check_leaks
from dfpipe.train.rows import training_rows
from dfpipe.types import Label

log = logging.getLogger(__name__)

HELD_OUT = "held_out"
INNER = (0.9, 0.1, 0.0)  # shares of fitting and of choosing the epoch, of the groups that are not held out


@dataclass(frozen=True)
class Fold:
    """One turn of a cross-validation."""

    number: int  # from 1
    rows: Mapping[str, Sequence[int]]  # of the manifest: train, validation (which chooses the epoch), held_out
    groups: Mapping[str, int]  # how many sources each of them has


def fold_rows(manifest: Manifest, count: int, seed: int) -> list[Fold]:
    """Divides the crops of the splits train and validation by source into folds, and each turn's rest once more.

    Every crop is held out once. The folds are those of the manifest's column `fold`, where they are as many, else new ones.
    Files with the same content count as one source.

    Args:
        manifest: Of extracted faces.
        count: Folds, at least 2.
        seed: Of every division.

    Raises:
        DataError: Too few sources for so many folds, crops without label, or too many missing or damaged.
        LeakError: A source in two folds of the manifest.
    """
    pool = sorted(manifest.rows_of("train") + manifest.rows_of("validation"))
    sources = _sources(manifest)
    fold_of = _given_folds(manifest, pool, sources, count)
    if fold_of is None:
        fold_of = assign_folds(_labels_of(manifest, pool, sources), count, seed)
    held = {number: [row for row in pool if fold_of[sources[row]] == number] for number in range(count)}
    for number, rows in held.items():
        _check_labels(manifest, rows, f"fold {number + 1} of {count}")
    first = [row for number in range(1, count) for row in held[number]]
    whole = {row for rows in training_rows(manifest, {"train": first, "validation": held[0]}).values() for row in rows}
    return [_fold(manifest, [row for row in pool if row in whole], sources, fold_of, n, seed) for n in range(count)]


def _fold(
    manifest: Manifest, pool: Sequence[int], sources: Sequence[str], fold_of: Mapping[str, int], number: int, seed: int
) -> Fold:
    rest = [row for row in pool if fold_of[sources[row]] != number]
    inner = assign(_labels_of(manifest, rest, sources), INNER, seed)
    rows = {
        "train": [row for row in rest if inner[sources[row]] == "train"],
        "validation": [row for row in rest if inner[sources[row]] == "validation"],
        HELD_OUT: [row for row in pool if fold_of[sources[row]] == number],
    }
    for part, members in rows.items():
        _check_labels(manifest, members, f"fold {number + 1}, part {part.replace('_', ' ')}")
    return Fold(number + 1, rows, {part: len({sources[row] for row in members}) for part, members in rows.items()})


def _sources(manifest: Manifest) -> list[str]:
    """The source of every row."""
    inputs = [row for row in read_inputs(manifest.folder) if row["sha256"]]
    same = together([group_key(row["dataset"], row["group"]), f"content {row['sha256']}"] for row in inputs)
    keys = [group_key(d, g) for d, g in zip(manifest.columns["dataset"], manifest.columns["group"], strict=True)]
    return [same.get(key, key) for key in keys]


def _given_folds(manifest: Manifest, pool: Sequence[int], sources: Sequence[str], count: int) -> dict[str, int] | None:
    """The manifest's own folds; None where it has none, or another number."""
    given = [manifest.columns["fold"][row] for row in pool]
    if set(given) != set(range(count)):
        if set(given) - {None}:
            log.info("the manifest holds other folds than %d: dividing anew", count)
        return None
    check_leaks([sources[row] for row in pool], [f"fold {fold + 1}" for fold in given])
    return {sources[row]: fold for row, fold in zip(pool, given, strict=True)}


def _labels_of(manifest: Manifest, rows: Sequence[int], sources: Sequence[str]) -> dict[str, set[int | None]]:
    labels: dict[str, set[int | None]] = defaultdict(set)
    for row in rows:
        labels[sources[row]].add(manifest.columns["label"][row])
    return labels


def _check_labels(manifest: Manifest, rows: Sequence[int], what: str) -> None:
    found = {manifest.columns["label"][row] for row in rows}
    for label in Label:
        if label not in found:
            raise DataError(f"{what}: no {label.name.lower()} crops; lower --folds, or extract more source clips")
