import warnings

import numpy as np
import pytest
from scipy.optimize import brentq
from sklearn import metrics as sk

from dfpipe.train.metrics import (
    ECE_BINS,
    binary_metrics,
    class_report,
    confusion,
    decision_metrics,
    reliability,
    report_text,
)


def test_by_hand() -> None:
    found = binary_metrics([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])
    assert found["auc"] == pytest.approx(3 / 4)
    assert found["accuracy"] == found["precision"] == found["recall"] == found["f1"] == pytest.approx(0.5)
    assert found["balanced_accuracy"] == found["fpr"] == found["eer"] == pytest.approx(0.5)
    assert found["average_precision"] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)  # fakes at ranks 1 and 3
    assert found["tpr_at_1_fpr"] == found["tpr_at_5_fpr"] == pytest.approx(0.5)
    assert found["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4)
    assert found["ece"] == pytest.approx((0.1 + 0.6 + 0.6 + 0.1) / 4)  # each score in a bin of its own
    assert found["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.4, 0.4, 0.9])))


@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, scores = rng.integers(0, 2, 200), rng.random(200).round(2)  # rounded: many ties
    said = scores >= 0.4
    found = binary_metrics(truth.tolist(), scores.tolist(), 0.4)
    oracle = {
        "auc": sk.roc_auc_score(truth, scores),
        "average_precision": sk.average_precision_score(truth, scores),
        "log_loss": sk.log_loss(truth, np.clip(scores, 1e-7, 1 - 1e-7)),
        "brier": sk.brier_score_loss(truth, scores),
        "accuracy": sk.accuracy_score(truth, said),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, said),
        "precision": sk.precision_score(truth, said),
        "recall": sk.recall_score(truth, said),
        "f1": sk.f1_score(truth, said),
        "fpr": 1 - sk.recall_score(truth, said, pos_label=0),
    }
    assert {name: found[name] for name in oracle} == pytest.approx(oracle)


def test_equal_error_rate_and_recall_at_low_fpr_by_hand() -> None:
    """200 real at 0.00 .. 1.99 / 2; fakes so that 3 of 4 lie above the 98th percentile of the real ones."""
    reals = [i / 400 for i in range(200)]  # 0 .. 0.4975
    fakes = [0.9, 0.8, 0.4965, 0.1]  # above all real; above all but one; ...
    found = binary_metrics([0] * 200 + [1] * 4, reals + fakes)
    assert found["tpr_at_1_fpr"] == found["tpr_at_5_fpr"] == pytest.approx(3 / 4)
    # Misses fall to 1/4 after the third fake, at a false positive rate of 1/200, and stay so until 25 % false positives.
    assert found["eer"] == pytest.approx(1 / 4)
    assert binary_metrics([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])["eer"] == pytest.approx(0.0)
    assert binary_metrics([0, 0, 1, 1], [0.8, 0.9, 0.1, 0.2])["eer"] == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_equal_error_rate_and_recall_at_low_fpr_by_trying_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 400)
    scores = np.clip(0.25 * truth + 0.7 * rng.random(400), 0, 1).round(3)
    found = binary_metrics(truth.tolist(), scores.tolist())
    tried = [(scores >= t) for t in [*np.unique(scores), 2.0]]
    rates = [(said[truth == 0].mean(), said[truth == 1].mean()) for said in tried]
    assert found["tpr_at_1_fpr"] == max(tpr for fpr, tpr in rates if fpr <= 0.01)
    assert found["tpr_at_5_fpr"] == max(tpr for fpr, tpr in rates if fpr <= 0.05)
    fpr, tpr, _ = sk.roc_curve(truth, scores)
    assert found["eer"] == pytest.approx(brentq(lambda x: 1 - x - np.interp(x, fpr, tpr), 0, 1), abs=1e-9)
    assert min(max(fpr, 1 - tpr) for fpr, tpr in rates) >= found["eer"]


def test_ties_everywhere_are_a_coin_toss() -> None:
    found = binary_metrics([0, 1, 0, 1], [0.5] * 4)
    assert (found["auc"], found["eer"], found["tpr_at_1_fpr"]) == (0.5, 0.5, 0.0)
    assert found["ece"] == pytest.approx(0)


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_makes_what_needs_both_undefined(label: int) -> None:
    found = binary_metrics([label] * 3, [0.2, 0.7, 0.9])
    for name in ("auc", "average_precision", "eer", "tpr_at_1_fpr", "tpr_at_5_fpr", "balanced_accuracy"):
        assert found[name] is None
    assert found["accuracy"] is not None
    assert found["log_loss"] is not None
    assert (found["recall"] is None) == (label == 0)
    assert (found["fpr"] is None) == (label == 1)


def test_one_clip_is_enough_for_what_can_be_said() -> None:
    found = binary_metrics([1], [0.8])
    assert (found["accuracy"], found["recall"], found["auc"]) == (1.0, 1.0, None)


def test_nothing_called_fake_has_no_precision() -> None:
    found = binary_metrics([0, 1], [0.1, 0.2])
    assert found["precision"] is None
    assert (found["recall"], found["f1"]) == (0.0, 0.0)


def test_certain_and_wrong_is_finite() -> None:
    loss = binary_metrics([1, 0], [0.0, 1.0])["log_loss"]
    assert loss is not None
    assert 10 < loss < 20


def test_nothing() -> None:
    assert set(binary_metrics([], []).values()) == {None}
    assert reliability(np.zeros(0, int), np.zeros(0)) == []


def test_reliability_bins() -> None:
    bins = reliability(np.array([0, 1, 1]), np.array([1 / ECE_BINS, 1 / ECE_BINS, 1.0]))
    assert bins == [
        {"count": 2, "p_fake": pytest.approx(1 / ECE_BINS), "fakes": 0.5},
        {"count": 1, "p_fake": 1.0, "fakes": 1.0},
    ]


# ---- figures that others have printed --------------------------------------------------------------------------------


def test_a_printed_confusion_matrix_gives_its_printed_report() -> None:
    """Fake 5643 right, 182 wrong; real 4998 right, 1149 wrong: published with accuracy 0.889, fake 0.83, 0.97, 0.89."""
    report = class_report({"tp": 5643, "fn": 182, "fp": 1149, "tn": 4998})
    assert round(report["accuracy"], 3) == 0.889
    fake = report["fake"]
    assert (round(fake["precision"], 2), round(fake["recall"], 2), round(fake["f1"], 2)) == (0.83, 0.97, 0.89)
    assert (fake["support"], report["real"]["support"]) == (5825, 6147)


@pytest.mark.parametrize("counts", [(4609, 804, 396, 5096), (5096, 396, 804, 4609)])
def test_another_printed_matrix(counts: tuple[int, ...]) -> None:
    """4609/804/396/5096, published with an accuracy of 0.89, whichever class comes first."""
    found = decision_metrics(dict(zip(("tp", "fn", "fp", "tn"), counts, strict=True)))
    assert found["accuracy"] == pytest.approx(0.89, abs=0.005)
    assert found["balanced_accuracy"] == pytest.approx(0.89, abs=0.005)


def test_the_report_is_that_of_scikit_learn_and_of_the_scores() -> None:
    rng = np.random.default_rng(3)
    truth, scores = rng.integers(0, 2, 300), rng.random(300)
    counts = confusion(truth.tolist(), scores.tolist(), 0.6)
    assert sum(counts.values()) == 300
    theirs = sk.classification_report(truth, scores >= 0.6, target_names=["real", "fake"], digits=3)
    assert report_text(counts) == theirs
    ours, dictionary = (
        class_report(counts),
        sk.classification_report(truth, scores >= 0.6, target_names=["real", "fake"], output_dict=True),
    )
    for mine, yours in (("real", "real"), ("fake", "fake"), ("macro", "macro avg"), ("weighted", "weighted avg")):
        assert ours[mine]["f1"] == pytest.approx(dictionary[yours]["f1-score"])
        assert ours[mine]["support"] == dictionary[yours]["support"]


def test_a_report_on_one_class_or_nothing_makes_nothing_up() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = class_report({"tn": 3, "fp": 0, "fn": 0, "tp": 0})
    assert report["fake"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert report["macro"]["f1"] is None
    assert report["real"]["f1"] == 1.0
    empty = class_report({"tn": 0, "fp": 0, "fn": 0, "tp": 0})
    assert empty["accuracy"] is None
    assert report_text({"tn": 0, "fp": 0, "fn": 0, "tp": 0}) == "nothing was scored"
