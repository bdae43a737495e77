"""Train, validation and test without a source in two of them. Pure."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from dfpipe.errors import LeakError

SPLITS = ("train", "validation", "test")


def assign(labels_of: Mapping[str, Iterable[int | None]], shares: Sequence[float], seed: int = 0) -> dict[str, str]:
    """Gives every group a split, so that each split has about the same mix of real, fake and paired groups.

    Args:
        labels_of: For each group the labels that occur in it.
        shares: Wanted shares of `SPLITS`, adding up to 1.
        seed: Another seed, another division; the same seed and groups, the same division on every machine.

    Returns:
        Group to split. From three groups of a kind on, every split with a share gets one; of two, train and validation.
    """
    result: dict[str, str] = {}
    for groups in _strata(labels_of, seed):
        start = 0
        for split, count in zip(SPLITS, _counts(len(groups), shares), strict=True):
            result.update(dict.fromkeys(groups[start : start + count], split))
            start += count
    return result


def assign_folds(labels_of: Mapping[str, Iterable[int | None]], folds: int, seed: int = 0) -> dict[str, int]:
    """Gives every group one of `folds` cross-validation folds of about equal size and mix.

    Returns:
        Group to fold, from 0.
    """
    result: dict[str, int] = {}
    for groups in _strata(labels_of, seed):
        for group in groups:  # on through all kinds of groups, so that many small kinds do not all start in fold 0
            result[group] = len(result) % folds
    return result


def _strata(labels_of: Mapping[str, Iterable[int | None]], seed: int) -> list[list[str]]:
    """Groups with only real, only fake and both labels apart, each shuffled by seed, the same on every machine."""
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group, labels in labels_of.items():
        strata[tuple(sorted({str(label) for label in labels}))].append(group)
    return [
        sorted(groups, key=lambda g: hashlib.sha256(f"{seed}:{g}".encode(errors="surrogateescape")).digest())
        for _, groups in sorted(strata.items())
    ]


def check_leaks(groups: Sequence[str], splits: Sequence[str | None]) -> None:
    """Makes sure that no group sits in two splits.

    Args:
        groups: The group of each row.
        splits: The split of each row.

    Raises:
        LeakError: Names the first offenders and counts the others.
    """
    seen: dict[str, set[str]] = defaultdict(set)
    for group, split in zip(groups, splits, strict=True):
        if split is not None:
            seen[group].add(split)
    offenders = {group: found for group, found in seen.items() if len(found) > 1}
    if offenders:
        shown = "; ".join(f"{g} in {' and '.join(sorted(s))}" for g, s in sorted(offenders.items())[:5])
        more = f" and {len(offenders) - 5} more" if len(offenders) > 5 else ""
        raise LeakError(
            f"{len(offenders)} source groups are in more than one split ({shown}{more}): figures measured on these splits "
            "would be too good; move each group to one side"
        )


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers near `shares` x total that add up to it, none of them starved where there are enough to go round."""
    exact = [share * total for share in shares]
    counts = [int(e + 1e-9) for e in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    for i, share in enumerate(shares):
        richest = max(range(len(counts)), key=lambda j: counts[j])
        if share > 0 and counts[i] == 0 and counts[richest] > 1:
            counts[i] += 1
            counts[richest] -= 1
    return counts
