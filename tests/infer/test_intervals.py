import numpy as np
import pytest
from sklearn import metrics as sk

from dfpipe.infer.intervals import intervals, paired, weighted_metrics, weights
from dfpipe.train.metrics import binary_metrics


def drawn(seed: int, rows: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, rows)
    scores = np.clip(0.3 * truth + 0.7 * rng.random(rows), 0, 1).round(2)
    return truth, scores, rng.integers(0, 4, (8, rows)).astype(float)


@pytest.mark.parametrize("seed", range(4))
def test_weighing_a_row_is_repeating_it(seed: int) -> None:
    truth, scores, w = drawn(seed)
    found = weighted_metrics(truth, scores, 0.45, w)
    for i, row in enumerate(w.astype(int)):
        repeated = binary_metrics(np.repeat(truth, row).tolist(), np.repeat(scores, row).tolist(), 0.45)
        assert {name: values[i] for name, values in found.items()} == pytest.approx(repeated)


def test_against_sample_weights_of_scikit_learn() -> None:
    truth, scores, w = drawn(9)
    found = weighted_metrics(truth, scores, 0.45, w)
    for i, row in enumerate(w):
        assert found["auc"][i] == pytest.approx(sk.roc_auc_score(truth, scores, sample_weight=row))
        assert found["average_precision"][i] == pytest.approx(
            sk.average_precision_score(truth, scores, sample_weight=row)
        )
        assert found["f1"][i] == pytest.approx(sk.f1_score(truth, scores >= 0.45, sample_weight=row))
        assert found["brier"][i] == pytest.approx(sk.brier_score_loss(truth, scores, sample_weight=row))


def test_a_resample_without_one_class_is_undefined() -> None:
    found = weighted_metrics(np.array([0, 1]), np.array([0.2, 0.9]), 0.5, np.array([[2.0, 0.0], [1.0, 1.0]]))
    assert np.isnan(found["auc"][0])
    assert np.isnan(found["recall"][0])
    assert found["auc"][1] == 1.0


def test_all_figures_have_an_interval_around_them() -> None:
    truth, scores, _ = drawn(1, 300)
    groups = [str(i // 3) for i in range(300)]
    point, found = binary_metrics(truth.tolist(), scores.tolist()), intervals(truth, scores, groups, 0.5, 400)
    assert set(found) == set(point)
    for name, pair in found.items():
        assert pair is not None
        # ECE is biased upwards in small resamples, so its interval may lie above the figure.
        assert name == "ece" or pair[0] <= point[name] <= pair[1], name


def test_groups_are_drawn_whole() -> None:
    (w,) = weights(["a", "a", "b", "c", "d", "e", "f"], 50, 0)
    assert (w[:, 0] == w[:, 1]).all()
    assert (w[:, 1:].sum(axis=1) == 6).all()
    assert set(np.unique(w)) > {0, 1}


def test_frames_of_a_clip_are_no_evidence_of_their_own() -> None:
    """Forty clips of one frame or of fifty equal frames are as sure as each other."""
    truth, scores, _ = drawn(5, 40)
    names = [str(i) for i in range(40)]
    once = intervals(truth, scores, names, 0.5)["auc"]
    often = intervals(*(np.repeat(x, 50) for x in (truth, scores, np.array(names))), 0.5)["auc"]
    as_if = intervals(np.repeat(truth, 50), np.repeat(scores, 50), [str(i) for i in range(2000)], 0.5)["auc"]
    assert once is not None
    assert as_if is not None
    assert often == pytest.approx(once)
    assert as_if[1] - as_if[0] < (once[1] - once[0]) / 4


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Known truth: scores of real N(0, 1), of fake N(1, 1), AUC 0.760. 60 data sets of 80 clips; 95 % +- 2.5 s.d. of 60."""
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = np.repeat([0, 1], 40)
        scores = 1 / (1 + np.exp(-(rng.normal(size=80) + truth)))
        pair = intervals(truth, scores, [str(i) for i in range(80)], 0.5, 300, seed)["auc"]
        assert pair is not None
        hits += pair[0] <= 0.7602 <= pair[1]
    assert hits >= 53


def test_too_little_for_an_interval() -> None:
    assert set(intervals([0, 1, 1], [0.1, 0.2, 0.9], ["a"] * 3, 0.5).values()) == {None}
    assert set(intervals([], [], [], 0.5).values()) == {None}
    five = [0, 1, 0, 1, 0], [0.1, 0.9, 0.2, 0.8, 0.3]
    assert set(intervals(*five, list("abcde"), 0.5).values()) == {None}
    few = intervals(
        [0, 1, 1, 1, 1, 1], [0.1, 0.9, 0.9, 0.8, 0.7, 0.9], list("abcdef"), 0.5
    )  # a third lacks the real one
    assert few["auc"] is None
    assert few["brier"] is not None


def test_same_seed_same_interval() -> None:
    truth, scores, _ = drawn(2)
    names = [str(i) for i in range(60)]
    assert intervals(truth, scores, names, 0.5, seed=1) == intervals(truth, scores, names, 0.5, seed=1)
    assert intervals(truth, scores, names, 0.5, seed=1) != intervals(truth, scores, names, 0.5, seed=2)


def test_paired_comparison() -> None:
    truth, scores, _ = drawn(3, 400)
    names = [str(i) for i in range(400)]
    rng = np.random.default_rng(0)
    worse = np.clip(scores + rng.normal(0, 0.3, 400), 0, 1)
    found = paired(truth, scores, worse, names)
    assert found["interval"][0] > 0
    assert found["p_value"] < 0.01
    same = paired(truth, scores, scores, names)
    assert same["interval"] == (0.0, 0.0)
    assert same["p_value"] == 1.0
    assert paired([1, 1], [0.2, 0.3], [0.3, 0.4], ["a", "b"]) == {"interval": None, "p_value": None}
