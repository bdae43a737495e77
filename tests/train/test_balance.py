from collections import Counter

import numpy as np
import pytest

from dfpipe.train.balance import BALANCES, epoch_order

LABELS = [0] * 10 + [1] * 35


def test_oversampling_shows_both_labels_equally_often_and_everything_at_least_once() -> None:
    order = epoch_order(LABELS, "label", 0, 0)
    assert Counter(LABELS[i] for i in order) == {0: 35, 1: 35}
    times = Counter(order.tolist())
    assert set(times) == set(range(45))
    assert {times[i] for i in range(10)} == {3, 4}
    assert {times[i] for i in range(10, 45)} == {1}


def test_none_shows_everything_once() -> None:
    assert sorted(epoch_order(LABELS, "none", 0, 0).tolist()) == list(range(45))


@pytest.mark.parametrize("balance", BALANCES)
def test_epochs_differ_and_repeat_by_seed(balance: str) -> None:
    first = epoch_order(LABELS, balance, 3, 0)
    np.testing.assert_array_equal(first, epoch_order(LABELS, balance, 3, 0))
    assert not np.array_equal(first, epoch_order(LABELS, balance, 3, 1))
    assert not np.array_equal(first, epoch_order(LABELS, balance, 4, 0))


def test_a_short_epoch() -> None:
    assert len(epoch_order(LABELS, "label", 0, 0, at_most=7)) == 7


def test_one_label_only() -> None:
    assert sorted(epoch_order([1, 1], "label", 0, 0).tolist()) == [0, 1]
