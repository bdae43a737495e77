"""Which crops an epoch shows, and how often. Pure."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def _none(labels: Indices, rng: np.random.Generator) -> Indices:
    """Every crop once."""
    return rng.permutation(len(labels))


def _label(labels: Indices, rng: np.random.Generator) -> Indices:
    """Every crop of the commoner label once, those of the rarer repeated until they are as many."""
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    most = max(len(members) for members in classes)
    repeated = [_repeated(members, most, rng) for members in classes]
    return rng.permutation(np.concatenate(repeated))


def _repeated(members: Indices, count: int, rng: np.random.Generator) -> Indices:
    """`count` members, each as often as any other, give or take one."""
    rounds = -(-count // len(members))
    return np.concatenate([rng.permutation(members) for _ in range(rounds)])[:count]


BALANCES: dict[str, Callable[[Indices, np.random.Generator], Indices]] = {"none": _none, "label": _label}


def epoch_order(labels: Sequence[int], balance: str, seed: int, epoch: int, at_most: int = 0) -> Indices:
    """The crops of one epoch in the order in which they are shown.

    Args:
        labels: 0 or 1 per crop.
        balance: A key of `BALANCES`.
        seed: Of the run.
        epoch: From 0; every epoch has an order of its own.
        at_most: Cuts the epoch short; 0 = all. What is left out in one epoch comes in another.

    Returns:
        Positions in `labels`.
    """
    order = BALANCES[balance](np.asarray(labels, dtype=np.int64), np.random.default_rng([seed, epoch]))
    return order[:at_most] if at_most else order
