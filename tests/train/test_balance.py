from collections import Counter

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from dfpipe.errors import DataError
from dfpipe.train.balance import BALANCES, Kinds, class_weights, epoch_order, kinds_of

LABELS = [0] * 10 + [1] * 35
KINDS = kinds_of(LABELS, [f"source {i % 5}" for i in range(45)], ["a"] * 30 + ["b"] * 15)


def shown(kinds: Kinds, balance: str) -> Counter[int]:
    return Counter(epoch_order(kinds, balance, 0, 0).tolist())


def test_oversampling_shows_both_labels_equally_often_and_everything_at_least_once() -> None:
    times = shown(KINDS, "label")
    assert {label: sum(n for i, n in times.items() if LABELS[i] == label) for label in (0, 1)} == {0: 35, 1: 35}
    assert set(times) == set(range(45))
    assert {times[i] for i in range(10)} == {3, 4}
    assert {times[i] for i in range(10, 45)} == {1}


def test_none_shows_everything_once() -> None:
    assert sorted(epoch_order(KINDS, "none", 0, 0).tolist()) == list(range(45))


def test_by_source_a_clip_with_many_crops_does_not_outvote_the_others() -> None:
    sources = ["many"] * 40 + ["few"] * 4 + ["real"] * 10
    kinds = kinds_of([1] * 44 + [0] * 10, sources, ["d"] * 54)
    times = Counter(sources[i] for i in epoch_order(kinds, "source", 0, 0).tolist())
    assert times == {"many": 22, "few": 22, "real": 44}


def test_every_dataset_and_label_counts_the_same() -> None:
    kinds = kinds_of([0] * 3 + [1] * 9 + [1] * 5, ["s"] * 17, ["a"] * 12 + ["b"] * 5)
    order = epoch_order(kinds, "dataset_label", 0, 0)
    cells = Counter((int(kinds.datasets[i]), int(kinds.labels[i])) for i in order)
    assert cells == {(0, 0): 9, (0, 1): 9, (1, 1): 9}


def test_cells_by_the_root_of_their_size_and_sources_alike_within() -> None:
    sizes = {("large", 0): 400, ("large", 1): 400, ("small", 0): 25}
    cells = [cell for cell, count in sizes.items() for _ in range(count)]
    sources = ["many" if i < 700 else f"s{i}" for i in range(825)]
    kinds = kinds_of([label for _, label in cells], sources, [dataset for dataset, _ in cells])
    order = epoch_order(kinds, "dataset_root", 0, 0)
    shown = Counter(cells[i] for i in order)
    assert shown == {("large", 0): 367, ("large", 1): 367, ("small", 0): 92}  # 825 x 20 / 45, 20 / 45, 5 / 45
    of_fakes = Counter(sources[i] for i in order if cells[i] == ("large", 1))
    assert max(of_fakes.values()) - min(of_fakes.values()) <= 1
    assert len(of_fakes) == 101


def test_a_cell_with_more_sources_than_showings_leaves_some_to_other_epochs() -> None:
    kinds = kinds_of([0] * 100 + [1], [f"s{i}" for i in range(101)], ["d"] * 101)
    seen = [set(epoch_order(kinds, "dataset_root", 0, epoch).tolist()) for epoch in (0, 1)]
    assert len(seen[0]) == 93  # 101 x 10 / 11 real crops, and the fake
    assert seen[0] != seen[1]


def test_pairs_hold_a_fake_and_a_real_crop_of_its_own_source() -> None:
    kinds = kinds_of([0, 0, 1, 1, 1, 1], ["a", "b", "a", "a", "b", "no original"], ["d"] * 6)
    order = epoch_order(kinds, "paired", 0, 0)
    pairs = order.reshape(-1, 2)
    assert sorted(pairs[:, 0].tolist()) == [2, 3, 4]
    assert (kinds.labels[pairs[:, 1]] == 0).all()
    assert (kinds.sources[pairs[:, 0]] == kinds.sources[pairs[:, 1]]).all()


def test_groups_of_two_datasets_are_two_sources_even_if_called_the_same() -> None:
    kinds = kinds_of([0, 1, 1], ["183", "183", "183"], ["a", "a", "b"])
    assert sorted(epoch_order(kinds, "paired", 0, 0).tolist()) == [0, 1]


def test_pairs_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(DataError, match="no fake crop has a real crop of the same source"):
        epoch_order(kinds_of([0, 1], ["a", "b"], ["d", "d"]), "paired", 0, 0)


@pytest.mark.parametrize("balance", BALANCES)
def test_epochs_differ_and_repeat_by_seed(balance: str) -> None:
    first = epoch_order(KINDS, balance, 3, 0)
    np.testing.assert_array_equal(first, epoch_order(KINDS, balance, 3, 0))
    assert not np.array_equal(first, epoch_order(KINDS, balance, 3, 1))
    assert not np.array_equal(first, epoch_order(KINDS, balance, 4, 0))


@pytest.mark.parametrize("balance", sorted(set(BALANCES) - {"paired"}))
def test_one_label_only(balance: str) -> None:
    kinds = kinds_of([1, 1], ["a", "b"], ["d", "d"])
    assert sorted(epoch_order(kinds, balance, 0, 0).tolist()) == [0, 1]


def test_a_short_epoch() -> None:
    assert len(epoch_order(KINDS, "label", 0, 0, at_most=7)) == 7


def test_class_weights_are_scikit_learns() -> None:
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=np.array(LABELS))
    assert class_weights(KINDS, epoch_order(KINDS, "none", 0, 0)) == pytest.approx(tuple(expected))
    assert class_weights(KINDS, epoch_order(KINDS, "label", 0, 0)) == (1.0, 1.0)
