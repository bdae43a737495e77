import numpy as np
import pytest
from sklearn import metrics as sk

from dfpipe.train.metrics import binary_metrics


def test_by_hand() -> None:
    found = binary_metrics([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
    assert found["auc"] == pytest.approx(3 / 4)
    assert found["accuracy"] == found["precision"] == found["recall"] == found["f1"] == pytest.approx(0.5)
    assert found["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.4, 0.4, 0.9])))


@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, scores = rng.integers(0, 2, 200), rng.random(200).round(2)
    found = binary_metrics(truth.tolist(), scores.tolist())
    assert found["auc"] == pytest.approx(sk.roc_auc_score(truth, scores))
    assert found["f1"] == pytest.approx(sk.f1_score(truth, scores >= 0.5))


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_makes_auc_undefined(label: int) -> None:
    found = binary_metrics([label] * 3, [0.2, 0.7, 0.9])
    assert found["auc"] is None
    assert found["accuracy"] is not None
    assert (found["recall"] is None) == (label == 0)


def test_certain_and_wrong_is_finite() -> None:
    loss = binary_metrics([1, 0], [0.0, 1.0])["log_loss"]
    assert loss is not None
    assert 10 < loss < 20


def test_nothing() -> None:
    assert set(binary_metrics([], []).values()) == {None}
