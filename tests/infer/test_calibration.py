import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn import metrics as sk

from dfpipe.errors import DataError, UsageError
from dfpipe.infer.calibration import (
    METHODS,
    best_threshold,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    outside,
    parse_rule,
    probabilities,
    sigmoid,
    uncertain_band,
)
from dfpipe.infer.intervals import Values


def overconfident(seed: int, count: int = 4000, factor: float = 3.0, shift: float = 0.0) -> tuple[np.ndarray, Values]:
    """Labels drawn from known probabilities, and logits that are `factor` too large and shifted."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 1.5, count)
    return (rng.random(count) < expit(true)).astype(int), factor * true + shift


def test_temperature_undoes_overconfidence() -> None:
    truth, logits = overconfident(0)
    assert fit_temperature(truth, logits)["temperature"] == pytest.approx(3.0, rel=0.08)


def test_platt_undoes_a_shift_too() -> None:
    truth, logits = overconfident(1, shift=2.0)
    found = fit_platt(truth, logits)
    assert found["scale"] == pytest.approx(1 / 3, rel=0.08)
    assert found["offset"] == pytest.approx(-2 / 3, abs=0.1)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_helps_on_data_that_it_has_not_seen(method: str) -> None:
    truth, logits = overconfident(2)
    fitted = {"method": method, **METHODS[method](truth, logits)}
    other, theirs = overconfident(3)
    before, after = (sk.log_loss(other, probabilities(theirs, kept)) for kept in (None, fitted))
    assert after < 0.8 * before
    order = probabilities(np.sort(theirs), fitted)
    assert (np.diff(order) >= 0).all()  # never turns the order round


def test_separated_labels_stay_finite() -> None:
    truth, logits = np.array([0] * 5 + [1] * 5), np.array([-4.0] * 5 + [4.0] * 5)
    assert fit_temperature(truth, logits)["temperature"] == pytest.approx(0.05, rel=1e-3)
    p = probabilities(logits, fit_platt(truth, logits))
    assert p == pytest.approx([1 / 7] * 5 + [6 / 7] * 5, rel=1e-3)  # Platt's targets
    assert probabilities(logits, {"method": "isotonic", **fit_isotonic(truth, logits)}).max() == pytest.approx(11 / 12)


def test_scores_turned_round_are_refused() -> None:
    with pytest.raises(DataError, match="nothing to calibrate"):
        fit_platt(np.array([0, 0, 1, 1]), np.array([3.0, 2.0, -2.0, -3.0]))


def test_no_calibration_is_the_sigmoid() -> None:
    x = np.array([-3.0, 0.0, 2.0])
    assert probabilities(x, None) == pytest.approx(expit(x))
    assert probabilities(x, {"temperature": 2.0}) == pytest.approx(expit(x / 2))


def test_the_sigmoid_is_that_of_scipy_to_the_last_bit() -> None:
    x = np.concatenate([np.random.default_rng(0).normal(0, 8, 20_000), [0.0, -40.0, 40.0, -800.0, 800.0, -700.0]])
    assert np.array_equal(sigmoid(x), expit(x))
    assert sigmoid(np.array([])).shape == (0,)


# ---- thresholds ------------------------------------------------------------------------------------------------------

TRUTH = np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1])
P = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


@pytest.mark.parametrize(
    ("rule", "between"),
    [
        ("youden", (0.5, 0.6)),  # 4 of 5 fakes, no real; at 0.4 all fakes for one real of five: as good, but lower
        ("f1", (0.3, 0.4)),  # 2 x 5 / (5 + 6) > 2 x 4 / (5 + 4)
        ("fpr=0", (0.5, 0.6)),
        ("fpr=0.2", (0.3, 0.4)),
        ("cost=0.1", (0.3, 0.4)),
        ("cost=100", (0.5, 0.6)),
    ],
)
def test_thresholds_by_hand(rule: str, between: tuple[float, float]) -> None:
    found = best_threshold(TRUTH, P, *parse_rule(rule))
    assert found == pytest.approx(sum(between) / 2)


def test_thresholds_where_nothing_is_sure() -> None:
    truth, p = np.array([1, 0]), np.array([0.2, 0.9])
    assert best_threshold(truth, p, "fpr", 0.0) > 0.9  # call nothing fake
    assert best_threshold(truth, np.array([0.5, 0.5]), "fpr", 1.0) == pytest.approx(0.25)  # call all fake


@pytest.mark.parametrize("text", ["", "best", "fpr", "fpr=2", "fpr=x", "cost=-1", "youden=3"])
def test_unknown_rules(text: str) -> None:
    with pytest.raises(UsageError, match="threshold rule"):
        parse_rule(text)


def test_bands_by_hand() -> None:
    assert uncertain_band(TRUTH, P, 0.55, 0.01) == (0.4, 0.55)  # the fake at 0.4 must not be called real
    assert uncertain_band(TRUTH, P, 0.55, 0.2) == (0.5, 0.55)  # of those below 0.55 one in six is fake
    assert uncertain_band(TRUTH, P, 0.45, 0.2) == (0.45, 0.45)
    assert uncertain_band(TRUTH, P, 0.35, 0.01) == (0.35, 0.6)
    assert uncertain_band(np.array([1, 0]), np.array([0.1, 0.9]), 0.5, 0.1) == (0.0, 1.0)  # nothing is sure


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
def test_outside_the_band_errors_stay_under_the_rate(rate: float) -> None:
    truth, logits = overconfident(5, 600)
    p = expit(logits)
    band = uncertain_band(truth, p, 0.5, rate)
    told = outside(truth.tolist(), p.tolist(), band)
    assert told["error"] <= rate
    assert told["error"] < told["error_limit"] < 1
    for called, wrong in ((p >= band[1], 0), (p < band[0], 1)):
        assert (truth[called] == wrong).mean() <= rate


def test_no_answer_has_no_error() -> None:
    assert outside([0, 1], [0.5, 0.5], (0.1, 0.9)) == {"decided": 0, "wrong": 0, "error": None, "error_limit": None}
    assert outside([1], [0.9], (0.5, 0.5))["error_limit"] == pytest.approx(0.95)  # of one right answer


def test_a_line_and_a_mean_change_places() -> None:
    """Calibrating frames and then averaging their logits is averaging and then calibrating."""
    logits = np.array([-2.0, 0.5, 3.0])
    kept = {"method": "platt", "scale": 0.4, "offset": -0.3}
    assert expit(logit(probabilities(logits, kept)).mean()) == pytest.approx(
        probabilities(np.array([logits.mean()]), kept)[0]
    )
