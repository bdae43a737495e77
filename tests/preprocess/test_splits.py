from collections import Counter

import pytest

from dfpipe.errors import LeakError
from dfpipe.preprocess.splits import SPLITS, assign, assign_folds, check_leaks


def test_shares_are_kept_per_kind_of_group() -> None:
    groups = (
        {f"r{i}": [0] for i in range(100)} | {f"f{i}": [1] for i in range(50)} | {f"b{i}": [0, 1] for i in range(30)}
    )
    given = assign(groups, (0.8, 0.1, 0.1))
    for kind, total in (("r", 100), ("f", 50), ("b", 30)):
        counts = Counter(split for group, split in given.items() if group.startswith(kind))
        assert counts == {"train": 0.8 * total, "validation": 0.1 * total, "test": 0.1 * total}


@pytest.mark.parametrize(
    ("groups", "expected"),
    [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (10, [8, 1, 1]), (11, [9, 1, 1]), (0, [0, 0, 0])],
)
def test_few_groups(groups: int, expected: list[int]) -> None:
    counts = Counter(assign({str(i): [0, 1] for i in range(groups)}, (0.8, 0.1, 0.1)).values())
    assert [counts[s] for s in SPLITS] == expected


def test_no_share_no_group() -> None:
    assert set(assign({str(i): [0] for i in range(9)}, (0.5, 0.5, 0.0)).values()) == {"train", "validation"}


def test_same_seed_same_division_another_seed_another() -> None:
    groups = {str(i): [0] for i in range(50)}
    assert assign(groups, (0.8, 0.1, 0.1), 1) == assign(dict(reversed(groups.items())), (0.8, 0.1, 0.1), 1)
    assert assign(groups, (0.8, 0.1, 0.1), 1) != assign(groups, (0.8, 0.1, 0.1), 2)


def test_leaks_are_named() -> None:
    check_leaks(["a", "a", "b"], ["train", "train", "test"])
    with pytest.raises(LeakError, match=r"1 source groups.*a in test and train"):
        check_leaks(["a", "a", "b"], ["train", "test", "test"])
    with pytest.raises(LeakError, match="and 3 more"):
        check_leaks([str(i) for i in range(8)] * 2, ["train"] * 8 + ["test"] * 8)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_are_even_in_size_and_mix(folds: int) -> None:
    groups = {f"r{i}": [0] for i in range(31)} | {f"b{i}": [0, 1] for i in range(17)} | {"f": [1]}
    given = assign_folds(groups, folds, 4)
    for kind in ("", "r", "b"):
        counts = Counter(fold for group, fold in given.items() if group.startswith(kind))
        assert set(counts) == set(range(folds))
        assert max(counts.values()) - min(counts.values()) <= 1
    assert given == assign_folds(dict(reversed(groups.items())), folds, 4)
    assert given != assign_folds(groups, folds, 5)
