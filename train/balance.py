"""Which crops an epoch shows, and how often. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import DataError

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Kinds:
    """What balancing needs to know of each crop: arrays of equal length."""

    labels: Indices  # 0 real, 1 fake
    sources: Indices  # number of the source clip (the group that must not cross splits)
    datasets: Indices  # number of the dataset

    def __len__(self) -> int:
        return len(self.labels)


def kinds_of(labels: Sequence[int], groups: Sequence[object], datasets: Sequence[object]) -> Kinds:
    """Turns names into numbers. Groups of two datasets are two sources, even if they are called the same."""
    sources = list(zip(datasets, groups, strict=True))
    return Kinds(np.asarray(labels, dtype=np.int64), _numbered(sources), _numbered(datasets))


def _numbered(names: Sequence[object]) -> Indices:
    number: dict[object, int] = {}
    return np.array([number.setdefault(name, len(number)) for name in names], dtype=np.int64)


def _none(kinds: Kinds, rng: np.random.Generator) -> Indices:
    """Every crop once."""
    return rng.permutation(len(kinds))


def _label(kinds: Kinds, rng: np.random.Generator) -> Indices:
    """Every crop of the commoner label once, those of the rarer repeated until they are as many."""
    return _levelled(_parts(kinds.labels), rng)


def _source(kinds: Kinds, rng: np.random.Generator) -> Indices:
    """Both labels equally often, and within each label every source clip equally often.

    A source with many crops or many fakes does not outvote the others: the DFDC has 1 to 28 fakes of an original.
    """
    by_label = _parts(kinds.labels)
    most = max(len(members) for members in by_label)
    return rng.permutation(np.concatenate([_by_source(members, kinds.sources, most, rng) for members in by_label]))


def _dataset_label(kinds: Kinds, rng: np.random.Generator) -> Indices:
    """Every dataset's real and every dataset's fake crops as often as the commonest of these cells."""
    return _levelled(_parts(2 * kinds.datasets + kinds.labels), rng)


def _dataset_root(kinds: Kinds, rng: np.random.Generator) -> Indices:
    """Every dataset's real and every dataset's fake crops as often as the square root of their number; sources alike.

    Small collections, which hold what the large ones lack, are seen more than their number, yet not so often that the
    network learns them by heart. After Mahajan et al., "Exploring the Limits of Weakly Supervised Pretraining", ECCV 2018.
    """
    cells = _parts(2 * kinds.datasets + kinds.labels)
    roots = np.sqrt([len(members) for members in cells])
    counts = np.maximum(1, np.rint(roots / roots.sum() * len(kinds))).astype(np.int64)
    shown = [_by_source(members, kinds.sources, int(n), rng) for members, n in zip(cells, counts, strict=True)]
    return rng.permutation(np.concatenate(shown))


def _paired(kinds: Kinds, rng: np.random.Generator) -> Indices:
    """Every fake once, each next to a real crop of its own source clip; a batch of even size holds whole pairs.

    A fake whose source has no real crop here is left out: paired with a stranger, it would teach what pairing is to avoid.
    """
    real_of: dict[int, list[int]] = {}
    for position in np.flatnonzero(kinds.labels == 0).tolist():
        real_of.setdefault(int(kinds.sources[position]), []).append(position)
    fakes = [i for i in np.flatnonzero(kinds.labels == 1).tolist() if int(kinds.sources[i]) in real_of]
    if not fakes:
        raise DataError(
            "train.balance=paired: no fake crop has a real crop of the same source clip in split 'train'; "
            "use label or source"
        )
    pairs = [(fake, int(rng.choice(real_of[int(kinds.sources[fake])]))) for fake in rng.permutation(fakes).tolist()]
    return np.array(pairs, dtype=np.int64).ravel()


def _parts(keys: Indices) -> list[Indices]:
    """Positions with equal keys."""
    return [np.flatnonzero(keys == key) for key in np.unique(keys)]


def _by_source(members: Indices, source_of: Indices, total: int, rng: np.random.Generator) -> Indices:
    """`total` members, every source of theirs equally often, give or take one."""
    sources = [members[part] for part in _parts(source_of[members])]
    rng.shuffle(sources)  # whom the remainder of the division falls to
    counts = np.full(len(sources), total // len(sources))
    counts[: total % len(sources)] += 1
    return np.concatenate([_repeated(part, count, rng) for part, count in zip(sources, counts, strict=True)])


def _levelled(parts: Sequence[Indices], rng: np.random.Generator) -> Indices:
    """All parts as often as the largest, mixed."""
    most = max(len(members) for members in parts)
    return rng.permutation(np.concatenate([_repeated(members, most, rng) for members in parts]))


def _repeated(members: Indices, count: int, rng: np.random.Generator) -> Indices:
    """`count` members, each as often as any other, give or take one."""
    rounds = max(1, -(-count // len(members)))
    return np.concatenate([rng.permutation(members) for _ in range(rounds)])[:count]


BALANCES: dict[str, Callable[[Kinds, np.random.Generator], Indices]] = {
    "none": _none,
    "label": _label,
    "source": _source,
    "dataset_label": _dataset_label,
    "dataset_root": _dataset_root,
    "paired": _paired,
}


def epoch_order(kinds: Kinds, balance: str, seed: int, epoch: int, at_most: int = 0) -> Indices:
    """The crops of one epoch in the order in which they are shown.

    Args:
        kinds: Of every crop.
        balance: A key of `BALANCES`.
        seed: Of the run.
        epoch: From 0; every epoch has an order of its own.
        at_most: Cuts the epoch short; 0 = all. What is left out in one epoch comes in another.

    Returns:
        Positions in `kinds`.

    Raises:
        DataError: No pairs to be had.
    """
    order = BALANCES[balance](kinds, np.random.default_rng([seed, epoch]))
    return order[:at_most] if at_most else order


def class_weights(kinds: Kinds, order: Indices) -> tuple[float, float]:
    """Weights for the loss of real and fake crops, such that both labels of an epoch count the same.

    As scikit-learn's `compute_class_weight("balanced")` on the labels shown.
    """
    shown = kinds.labels[order]
    real, fake = (max(int((shown == label).sum()), 1) for label in (0, 1))
    return len(shown) / (2 * real), len(shown) / (2 * fake)
