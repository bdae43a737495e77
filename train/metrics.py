"""Numbers that say how good scores are, computed by scikit-learn. Pure.

A metric that needs both labels is None where only one occurs: "undefined", never a made-up number.
"""

from collections.abc import Sequence

import numpy as np
from sklearn import metrics as sk

PROBABILITY_FLOOR = 1e-7  # keeps log loss finite for a model that is certain and wrong


def binary_metrics(labels: Sequence[int], p_fake: Sequence[float], threshold: float = 0.5) -> dict[str, float | None]:
    """Compares scores with the truth; fake (1) is the positive class.

    Args:
        labels: 0 real, 1 fake.
        p_fake: Probabilities in 0..1, as many.
        threshold: From which on a score counts as fake.

    Returns:
        auc, log_loss, accuracy, precision, recall, f1 by name.
    """
    truth, scores = np.asarray(labels, dtype=int), np.asarray(p_fake, dtype=float)
    said = scores >= threshold
    both = len(np.unique(truth)) == 2
    clipped = np.clip(scores, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return {
        "auc": float(sk.roc_auc_score(truth, scores)) if both else None,
        "log_loss": float(sk.log_loss(truth, clipped, labels=[0, 1])) if len(truth) else None,
        "accuracy": float(sk.accuracy_score(truth, said)) if len(truth) else None,
        "precision": float(sk.precision_score(truth, said)) if said.any() else None,
        "recall": float(sk.recall_score(truth, said)) if truth.any() else None,
        "f1": float(sk.f1_score(truth, said)) if said.any() or truth.any() else None,
    }
