"""Logits to probabilities that mean what they say, thresholds and uncertain bands. Pure.

Calibrations are fitted to the scores of clips and applied to those of frames. For temperature and Platt scaling that is the
same under the aggregate mean_logit, because a straight line and a mean can change places; for isotonic regression, and
with several frames, it is an approximation, which is why the figures after it are measured and not assumed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import DataError, UsageError

Values = NDArray[np.float64]
Truth = NDArray[np.int64]

EVEN = 0.5  # a calibrated p_fake from which on a clip is at least as likely fake as not
TEMPERATURES = (0.05, 20.0)  # scores that separate the labels wholly would drive it to 0
SETTINGS = {"fpr": (0.0, 1.0), "cost": (0.0, float("inf"))}  # rules of `THRESHOLDS` that take a number, and its range


def probabilities(logits: NDArray[Any], calibration: Mapping[str, Any] | None) -> Values:
    """What a model file says of the logits of its network.

    Args:
        logits: (N,).
        calibration: `ModelCard.calibration`.

    Returns:
        (N,) p_fake, 0..1.
    """
    x = np.asarray(logits, dtype=np.float64)
    kept = calibration or {}
    if kept.get("method") == "isotonic":
        return np.asarray(np.interp(sigmoid(x), kept["p_in"], kept["p_out"]), dtype=np.float64)
    scale = kept.get("scale", 1 / kept.get("temperature", 1.0))
    return sigmoid(scale * x + kept.get("offset", 0.0))


def sigmoid(logits: Values) -> Values:
    """As scipy.special.expit, to the last bit, without the 0.15 core-seconds in which scipy is loaded."""
    largest = 709.0  # of which a float holds the exponential
    return np.array([1 / (1 + math.exp(-x)) if x > -largest else 0.0 for x in logits.tolist()], dtype=np.float64)


# ---- fitting ---------------------------------------------------------------------------------------------------------


def fit_temperature(truth: Truth, logits: Values) -> dict[str, Any]:
    """One number by which logits are divided (Guo et al., ICML 2017); the order of scores stays."""
    from scipy.optimize import minimize_scalar  # judging fits nothing, and should not wait a second for what fits

    def loss(log_t: float) -> float:
        z = logits / np.exp(log_t)
        return float(np.mean(np.logaddexp(0, z) - truth * z))

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-6})
    return {"temperature": float(np.exp(found.x))}


def fit_platt(truth: Truth, logits: Values) -> dict[str, Any]:
    """Slope and offset (Platt, Advances in Large Margin Classifiers, 1999), with his targets short of 0 and 1."""
    from sklearn.linear_model import LogisticRegression

    fakes = int(truth.sum())
    reals = len(truth) - fakes
    targets = np.where(truth == 1, (fakes + 1) / (fakes + 2), 1 / (reals + 2))
    twice = np.concatenate([logits, logits])[:, None]
    labels = np.repeat([1, 0], len(truth))
    line = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    line.fit(twice, labels, sample_weight=np.concatenate([targets, 1 - targets]))
    slope = float(line.coef_[0, 0])
    if slope <= 0:
        raise DataError("higher scores do not mean more fakes in these data: there is nothing to calibrate")
    return {"scale": slope, "offset": float(line.intercept_[0])}


def fit_isotonic(truth: Truth, logits: Values) -> dict[str, Any]:
    """Any rising steps (Zadrozny and Elkan, KDD 2002), kept as far from 0 and 1 as Laplace's rule for so many clips says."""
    from sklearn.isotonic import IsotonicRegression

    margin = 1 / (len(truth) + 2)
    steps = IsotonicRegression(y_min=margin, y_max=1 - margin, out_of_bounds="clip").fit(sigmoid(logits), truth)
    return {"p_in": steps.X_thresholds_.tolist(), "p_out": steps.y_thresholds_.tolist()}


METHODS: dict[str, Callable[[Truth, Values], dict[str, Any]]] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}


# ---- thresholds ------------------------------------------------------------------------------------------------------


def _youden(fpr: Values, tpr: Values, truth: Truth, value: float) -> Values:
    """Best sum of sensitivity and specificity (Youden, Cancer 1950)."""
    return tpr - fpr


def _f1(fpr: Values, tpr: Values, truth: Truth, value: float) -> Values:
    """Best F1 of the class fake."""
    tp, fp = tpr * truth.sum(), fpr * (1 - truth).sum()
    best: Values = 2 * tp / (truth.sum() + tp + fp)
    return best


def _fpr(fpr: Values, tpr: Values, truth: Truth, value: float) -> Values:
    """Most fakes found with at most so large a share of real ones called fake."""
    return np.where(fpr <= value, tpr, -1.0)


def _cost(fpr: Values, tpr: Values, truth: Truth, value: float) -> Values:
    """Least cost where calling a real one fake costs `value` times as much as missing a fake."""
    saved: Values = -value * fpr * (1 - truth).sum() - (1 - tpr) * truth.sum()
    return saved


THRESHOLDS: dict[str, Callable[[Values, Values, Truth, float], Values]] = {
    "youden": _youden,
    "f1": _f1,
    "fpr": _fpr,
    "cost": _cost,
}


def parse_rule(text: str) -> tuple[str, float]:
    """Reads a threshold rule: youden, f1, fpr=0.01, cost=5.

    Raises:
        UsageError: Unknown, or its number is missing or out of range.
    """
    name, _, number = text.partition("=")
    try:
        value = float(number) if name in SETTINGS else 0.0
    except ValueError:
        value = float("nan")
    low, high = SETTINGS.get(name, (0.0, 0.0))
    if name not in THRESHOLDS or not low <= value <= high or (number and name not in SETTINGS):
        raise UsageError(
            f"unknown threshold rule {text!r}; there are: youden, f1, fpr=SHARE (as 0.01), cost=RATIO (as 5)"
        )
    return name, value


def best_threshold(truth: Truth, p_fake: Values, rule: str, value: float = 0.0) -> float:
    """The threshold that a rule likes best, half-way to the next lower score; of equals, the highest.

    Args:
        truth: (N,), both labels.
        p_fake: (N,), 0..1.
        rule: A key of `THRESHOLDS`.
        value: Its number; see `parse_rule`.
    """
    from sklearn.metrics import roc_curve

    fpr, tpr, at = roc_curve(truth, p_fake, drop_intermediate=False)
    best = int(np.argmax(THRESHOLDS[rule](fpr, tpr, truth, value)))
    if best == 0:  # nothing is called fake
        return float((1 + at[1]) / 2)
    lower = at[best + 1] if best + 1 < len(at) else 0.0
    return float((at[best] + lower) / 2)


def uncertain_band(truth: Truth, p_fake: Values, threshold: float, error_rate: float) -> tuple[float, float]:
    """The smallest band around a threshold outside which answers are wrong at most so often, on either side.

    It never ends below above `EVEN`: few clips of which most are fake would else make REAL of what is as likely fake.

    Args:
        truth: (N,).
        p_fake: (N,), 0..1.
        threshold: Inside the band.
        error_rate: At most this share of those at or above the band is real, and of those below it fake.

    Returns:
        (low, high); 0 or 1 where no score on that side is sure enough.
    """
    return _low(truth, p_fake, threshold, error_rate), _high(truth, p_fake, threshold, error_rate)


def _high(truth: Truth, p_fake: Values, threshold: float, error_rate: float) -> float:
    edges = sorted({threshold, *p_fake[p_fake > threshold].tolist()})
    for edge in edges:
        called = p_fake >= edge
        if called.any() and (1 - truth[called]).mean() <= error_rate:
            return float(edge)
    return 1.0


def _low(truth: Truth, p_fake: Values, threshold: float, error_rate: float) -> float:
    highest = min(threshold, EVEN)
    edges = sorted({highest, *p_fake[p_fake < highest].tolist()}, reverse=True)
    for edge in edges:
        called = p_fake < edge
        if called.any() and truth[called].mean() <= error_rate:
            return float(edge)
    return 0.0


def outside(truth: Sequence[int], p_fake: Sequence[float], band: tuple[float, float]) -> dict[str, Any]:
    """How often answers outside a band are given and wrong.

    Returns:
        decided and wrong (clips), error (share, None without any), and error_limit: with 95 % confidence the error is not
        above it (Clopper and Pearson, Biometrika 1934).
    """
    from scipy.stats import beta

    y, p = np.asarray(truth), np.asarray(p_fake)
    fake, real = p >= band[1], p < band[0]
    decided, wrong = int(fake.sum() + real.sum()), int((1 - y[fake]).sum() + y[real].sum())
    limit = float(beta.ppf(0.95, wrong + 1, decided - wrong)) if wrong < decided else 1.0
    error = wrong / decided if decided else None
    return {"decided": decided, "wrong": wrong, "error": error, "error_limit": limit if decided else None}
