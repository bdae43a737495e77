"""Models joined to one: from their frame scores, and as a model file that inference takes like any other."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from dfpipe.config import to_mapping
from dfpipe.errors import DataError, UsageError, choose
from dfpipe.infer.aggregate import logit
from dfpipe.infer.detector import Detector
from dfpipe.infer.scores import Scores
from dfpipe.train.card import ModelCard
from dfpipe.train.ensemble import ENSEMBLES, Ensemble, joined_logits
from dfpipe.train.modelfile import save_model
from dfpipe.train.models import FaceClassifier
from dfpipe.train.openmodel import Model
from dfpipe.train.provenance import trainings

Stack = tuple[list[float], float]  # a weight for each member, and the bias


def check_members(detectors: Mapping[str, Detector], how: str) -> None:
    """Refuses what cannot be joined.

    Raises:
        ConfigError: No such way of joining.
        UsageError: Fewer than two members, members that want other crops, an isotonic calibration, or an ensemble.
    """
    choose(ENSEMBLES, how, "ensemble")
    if len(detectors) < 2:
        raise UsageError("an ensemble needs at least two model files: name more")
    cards = {name: detector.model.card for name, detector in detectors.items()}
    first = next(iter(cards.values()))
    for name, card in cards.items():
        if card.ensemble is not None:
            raise UsageError(f"{name} is an ensemble already: name its members")
        if card.faces != first.faces:
            raise UsageError(
                f"{name} and {first.name} want their crops cut otherwise: they cannot look at the same picture; "
                "train them on the same extraction"
            )
        if (card.calibration or {}).get("method") == "isotonic":
            raise UsageError(
                f"{name} is calibrated by steps, which an ensemble cannot hold: calibrate the ensemble itself"
            )


def join_scores(scores: Scores, members: Sequence[str], name: str, how: str, stack: Stack) -> Scores:
    """The scores of an ensemble from those of its members, on the faces that all of them scored."""
    rows, logits = _aligned(scores, members)
    joined = joined_logits(torch.from_numpy(logits), how, *stack).numpy()
    table = scores.of(members[0])
    scored = iter(expit(joined).tolist())
    keep = set(rows)
    p_fake = [next(scored) if i in keep else None for i in range(len(table))]
    return Scores({**table.columns, "model": [name] * len(table), "p_fake": p_fake}, scores.about)


def fit_stack(scores: Scores, members: Sequence[str]) -> Stack:
    """Weights of a stack, by logistic regression on frames; every clip counts the same, however many frames it has.

    Raises:
        DataError: One label is missing.
    """
    rows, logits = _aligned(scores, members)
    columns = scores.of(members[0]).columns
    known = [i for i, row in enumerate(rows) if columns["label"][row] is not None]
    labels = [columns["label"][rows[i]] for i in known]
    if len(set(labels)) < 2:
        raise DataError("a stack is fitted to validation data with both labels: one is missing there")
    media = [columns["media_id"][rows[i]] for i in known]
    frames = Counter(media)
    line = LogisticRegression(C=1.0, max_iter=1000)  # scikit-learn's default: some pull towards 0 keeps members in play
    line.fit(logits[:, known].T, labels, sample_weight=[1 / frames[m] for m in media])
    return line.coef_[0].tolist(), float(line.intercept_[0])


def _aligned(scores: Scores, members: Sequence[str]) -> tuple[list[int], NDArray[np.float64]]:
    """Rows of the first member's table that all members scored, and (M, N) logits of these."""
    tables = [_by_face(scores.of(name)) for name in members]
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    rows = [tables[0][key][0] for key in shared]
    logits = [[logit(table[key][1]) for key in shared] for table in tables]
    return rows, np.array(logits, dtype=np.float64).reshape(len(members), len(shared))


def _by_face(table: Scores) -> dict[tuple[Any, ...], tuple[int, float]]:
    columns = table.columns
    keys = zip(columns["media_id"], columns["track"], columns["frame_index"], strict=True)
    return {key: (i, p) for i, (key, p) in enumerate(zip(keys, columns["p_fake"], strict=True)) if p is not None}


# ---- the model file --------------------------------------------------------------------------------------------------


def save_ensemble(path: Path, detectors: Mapping[str, Detector], name: str, how: str, stack: Stack) -> None:
    """Writes an ensemble as one model file. Threshold and band are conventions until it is calibrated."""
    save_model(path, *_ensemble(detectors, name, how, stack))


def together(detectors: Sequence[Detector], how: str = "mean-logit") -> Detector:
    """Several models as one detector, without a file of their own.

    Args:
        detectors: At least two that want the same crops.
        how: A key of `ENSEMBLES`, but not `stacked`, whose weights must be fitted.

    Raises:
        UsageError: They cannot be joined, or one is named twice.
    """
    hashes = [detector.model.sha256 for detector in detectors]
    if len(set(hashes)) < len(hashes):
        raise UsageError("the same model file is named twice: name it once")
    members = {f"{detector.model.card.name} {i}": detector for i, detector in enumerate(detectors)}
    check_members(members, how)
    name = " + ".join(detector.model.card.name for detector in detectors)
    network, card = _ensemble(members, f"{name} ({how})", how, ([1.0] * len(detectors), 0.0))
    digest = hashlib.sha256("".join(hashes).encode()).hexdigest()
    first = detectors[0]
    return Detector(Model(card, first.model.path, digest, network.eval), first.config, first.limits)


def _ensemble(detectors: Mapping[str, Detector], name: str, how: str, stack: Stack) -> tuple[Ensemble, ModelCard]:
    models = [detector.model for detector in detectors.values()]
    networks = [model.network for model in models if isinstance(model.network, FaceClassifier)]
    first = models[0].card
    told = {
        "how": how,
        "members": [_member(detector) for detector in detectors.values()],
        "weights": stack[0],
        "bias": stack[1],
    }
    card = replace(
        first,
        name=name,
        architecture="ensemble of " + " + ".join(model.card.architecture for model in models),
        image_size=first.faces.crop_size,
        threshold=0.5,
        band=(0.4, 0.6),
        calibration=None,
        metrics={},
        data=_data_of([model.card for model in models]),
        config={},
        ensemble=told,
    )
    return Ensemble(told, networks).to(networks[0].mean.device), card


def _member(detector: Detector) -> dict[str, Any]:
    card = detector.model.card
    line = card.calibration or {}
    return {
        "name": card.name,
        "sha256": detector.model.sha256,
        "architecture": card.architecture,
        "image_size": card.image_size,
        "mean": list(card.mean),
        "std": list(card.std),
        "head": to_mapping(card.head),
        "scale": line.get("scale", 1 / line.get("temperature", 1.0)),
        "offset": line.get("offset", 0.0),
    }


def _data_of(cards: Sequence[ModelCard]) -> dict[str, Any]:
    """What the members were trained on, all together."""
    known = [trainings(card.data) for card in cards]
    return {
        "datasets": sorted({dataset for card in cards for dataset in card.data.get("datasets", [])}),
        "members": [{key: value for key, value in card.data.items() if key != "trained_on"} for card in cards],
        **({} if None in known else {"trained_on": [part for parts in known for part in parts or ()]}),
    }
