"""How sure a figure is: bootstrap over groups (source clips), never over frames. Pure.

Frames of one clip, and fakes made of one source, resemble each other: resampling them one by one would make intervals far
too narrow. Each resample draws as many groups as there are, with replacement (the cluster bootstrap: Field and Welsh, J. R.
Stat. Soc. B 69, 2007), and weighs every score by how often its group was drawn. The figures of `binary_metrics` are then
computed for many weightings at once; the tests hold them to scikit-learn's `sample_weight`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.train.metrics import ECE_BINS, FPR_LIMITS, PROBABILITY_FLOOR, bin_of

Values = NDArray[np.float64]
Interval = tuple[float, float] | None

RESAMPLES = (
    1000  # Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3: at least that for percentiles
)
LEVEL = 0.95
MOST_UNDEFINED = 0.1  # share of resamples without one of the classes beyond which an interval would speak of other data
FEWEST_GROUPS = 6  # with five, not even all of them on one side would be significant at 5 %: 2 x 0.5^5 = 0.06
_CELLS = 4_000_000  # weights held at once: 32 MB


def intervals(
    labels: Sequence[int],
    p_fake: Sequence[float],
    groups: Sequence[str],
    threshold: float,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """95 % percentile intervals of the figures of `binary_metrics`.

    Args:
        labels: 0 real, 1 fake.
        p_fake: Probabilities in 0..1.
        groups: What is drawn together.
        threshold: From which on a score counts as fake.
        resamples: How many.
        seed: Same seed, same intervals.

    Returns:
        Metric to (low, high), or None: with fewer than `FEWEST_GROUPS`, or where the metric is undefined in more than
        `MOST_UNDEFINED` of the resamples.
    """
    truth, scores = np.asarray(labels, dtype=np.int64), np.asarray(p_fake, dtype=np.float64)
    parts = [weighted_metrics(truth, scores, threshold, w) for w in weights(groups, resamples, seed)]
    names = weighted_metrics(np.zeros(0, np.int64), np.zeros(0), threshold, np.zeros((1, 0)))
    return {name: _percentiles(np.concatenate([p[name] for p in parts])) if parts else None for name in names}


def paired(
    labels: Sequence[int],
    one: Sequence[float],
    other: Sequence[float],
    groups: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares the AUC of two models on the same inputs: both are measured on the same resamples.

    Args:
        labels: 0 real, 1 fake.
        one: Scores of one model.
        other: Scores of the other, for the same inputs.
        groups: What is drawn together.
        resamples: How many.
        seed: Same seed, same answer.

    Returns:
        interval of AUC(one) - AUC(other), and p_value: twice the share of resamples on the rarer side of 0, counting one
        more resample on either side (Davison and Hinkley, Bootstrap Methods, 1997, section 4.2). None where undefined.
    """
    truth = np.asarray(labels, dtype=np.int64)
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    gaps = [weighted_auc(truth, first, w) - weighted_auc(truth, second, w) for w in weights(groups, resamples, seed)]
    gap = np.concatenate(gaps) if gaps else np.full(1, np.nan)
    interval = _percentiles(gap)
    known = gap[~np.isnan(gap)]
    rarer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return {"interval": interval, "p_value": min(1.0, 2 * (rarer + 1) / (len(known) + 1)) if interval else None}


def weights(groups: Sequence[str], resamples: int, seed: int) -> Iterator[Values]:
    """How often each row is drawn: blocks of (some resamples, rows). Nothing with fewer than `FEWEST_GROUPS`."""
    if not len(groups):
        return
    _, place = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
    count = int(place.max()) + 1
    if count < FEWEST_GROUPS:
        return
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // len(groups))
    for start in range(0, resamples, block):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(block, resamples - start))
        yield drawn[:, place].astype(np.float64)


def _percentiles(values: Values) -> Interval:
    known = values[~np.isnan(values)]
    if len(known) < (1 - MOST_UNDEFINED) * len(values):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


# ---- figures for many weightings at once -----------------------------------------------------------------------------


def weighted_metrics(truth: NDArray[np.int64], scores: Values, threshold: float, w: Values) -> dict[str, Values]:
    """The figures of `binary_metrics` with rows that count more or less often.

    Args:
        truth: (N,), 0 real, 1 fake.
        scores: (N,), 0..1.
        threshold: From which on a score counts as fake.
        w: (B, N), weights from 0.

    Returns:
        Metric to (B,) values, not a number where undefined.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            **_ranking(truth, scores, w),
            **_probability(truth, scores, w),
            **_decisions(truth, scores >= threshold, w),
        }


def weighted_auc(truth: NDArray[np.int64], scores: Values, w: Values) -> Values:
    """(B,) areas under the ROC curve; see `weighted_metrics`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return _area(*_rates(truth, scores, w)[:2])


def _rates(truth: NDArray[np.int64], scores: Values, w: Values) -> tuple[Values, Values, Values]:
    """False and true positive rates, (B, T + 1), from (0, 0) on, and the precision at each threshold, (B, T)."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-1.0))  # the last row of each run of equal scores
    fakes = np.cumsum(w[:, order] * truth[order], axis=1)[:, ends]
    reals = np.cumsum(w[:, order] * (1 - truth[order]), axis=1)[:, ends]
    zero = np.zeros((len(w), 1))
    total_fake = w @ truth
    total_real = w @ (1 - truth)
    fpr = np.concatenate([zero, reals], axis=1) / total_real[:, None]
    tpr = np.concatenate([zero, fakes], axis=1) / total_fake[:, None]
    return fpr, tpr, fakes / (fakes + reals)


def _area(fpr: Values, tpr: Values) -> Values:
    area: Values = np.sum(np.diff(fpr, axis=1) * (tpr[:, 1:] + tpr[:, :-1]) / 2, axis=1)
    return np.where(np.isnan(fpr[:, -1] + tpr[:, -1]), np.nan, area)


def _ranking(truth: NDArray[np.int64], scores: Values, w: Values) -> dict[str, Values]:
    fpr, tpr, precision = _rates(truth, scores, w)
    undefined = np.isnan(fpr[:, -1] + tpr[:, -1])
    found = {
        "auc": _area(fpr, tpr),
        "average_precision": np.nansum(np.diff(tpr, axis=1) * precision, axis=1),
        "eer": _equal_error_rates(fpr, tpr),
        **{name: np.max(np.where(fpr <= limit, tpr, 0.0), axis=1) for name, limit in FPR_LIMITS.items()},
    }
    return {name: np.where(undefined, np.nan, values) for name, values in found.items()}


def _equal_error_rates(fpr: Values, tpr: Values) -> Values:
    if fpr.shape[1] < 2:
        return np.full(len(fpr), np.nan)
    gap = fpr - (1 - tpr)
    rows = np.arange(len(gap))
    after = np.maximum(np.argmax(gap >= 0, axis=1), 1)
    low, high = gap[rows, after - 1], gap[rows, after]
    eer: Values = fpr[rows, after - 1] - low / (high - low) * (fpr[rows, after] - fpr[rows, after - 1])
    return eer


def _probability(truth: NDArray[np.int64], scores: Values, w: Values) -> dict[str, Values]:
    clipped = np.clip(scores, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    losses = -np.log(np.where(truth == 1, clipped, 1 - clipped))
    total = w.sum(axis=1)
    bins = np.eye(ECE_BINS)[bin_of(scores)] if len(scores) else np.zeros((0, ECE_BINS))
    gaps = np.abs(w @ (bins * (scores - truth)[:, None]))  # count x |mean score - share of fakes|, per bin
    return {
        "log_loss": (w @ losses) / total,
        "brier": (w @ (scores - truth) ** 2) / total,
        "ece": gaps.sum(axis=1) / total,
    }


def _decisions(truth: NDArray[np.int64], said: NDArray[np.bool_], w: Values) -> dict[str, Values]:
    tp, fn = w @ (said & (truth == 1)), w @ (~said & (truth == 1))
    fp, tn = w @ (said & (truth == 0)), w @ (~said & (truth == 0))
    recall, specificity = tp / (tp + fn), tn / (tn + fp)
    return {
        "accuracy": (tp + tn) / (tp + fn + fp + tn),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": tp / (tp + fp),
        "recall": recall,
        "f1": 2 * tp / (2 * tp + fp + fn),
        "fpr": 1 - specificity,
    }


def as_pairs(found: Mapping[str, Interval]) -> dict[str, list[float] | None]:
    """Intervals as JSON holds them."""
    return {name: None if pair is None else list(pair) for name, pair in found.items()}
