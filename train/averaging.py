"""One network between several: the mean of the weights of model files that one training left.

Weights of one training lie in one basin, so their mean is a network too, and often a better one than each: it keeps what the
earlier file knew and what the later one learnt (Izmailov et al., "Averaging Weights Leads to Wider Optima and Better
Generalization", UAI 2018; Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dfpipe.errors import ModelFileError
from dfpipe.train.card import ModelCard
from dfpipe.train.modelfile import load_model, save_model
from dfpipe.train.openmodel import Model
from dfpipe.train.start import is_start_of

ALIKE = ("architecture", "mean", "std", "faces", "ensemble")  # fields that must not differ
ALIKE_IN_ONE_TRAINING = ("image_size", "head")  # fine-tuning may change these: those of the last file hold then


def average(models: Sequence[Path], out: Path) -> ModelCard:
    """Writes the mean of some model files. Figures and calibration of the single ones do not hold for it and are dropped.

    Args:
        models: At least two files of networks of one kind, trained on the same data from the same first weights. The first
            may be what the others were fine-tuned from.
        out: The file to write.

    Raises:
        ModelFileError: A file is refused, or they do not belong together.
    """
    loaded = [load_model(path) for path in models]
    card = loaded[-1].card
    if len(loaded) < 2:
        raise ModelFileError("a mean needs at least two model files: name more")
    for other in loaded[:-1]:
        tuned = other is loaded[0] and is_start_of(other, card)
        alike = ALIKE if tuned else ALIKE + ALIKE_IN_ONE_TRAINING
        different = [name for name in alike if getattr(other.card, name) != getattr(card, name)]
        different += ["data"] if not tuned and _trained_on(other.card) != _trained_on(card) else []
        different += ["weights"] if _shapes(other) != _shapes(loaded[-1]) else []
        if different:
            raise ModelFileError(
                f"{other.path} and {loaded[-1].path} differ in {', '.join(different)}: name model files of one training"
            )
    states = [one.network.state_dict() for one in loaded]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if tensor.is_floating_point() else tensor
        for name, tensor in states[-1].items()
    }
    loaded[-1].network.load_state_dict(mean)
    fresh = ModelCard("", card.architecture, card.image_size, card.mean, card.std, card.faces)
    members = [f"{one.card.name}/{one.path.stem}" for one in loaded]
    told = {**card.data, "averaged": members}
    card = replace(card, threshold=fresh.threshold, band=fresh.band, calibration=None, metrics={}, data=told)
    save_model(out, loaded[-1].network, card)
    return card


def _shapes(model: Model) -> dict[str, Any]:
    return {name: tensor.shape for name, tensor in model.network.state_dict().items()}


def _trained_on(card: ModelCard) -> Any:
    return card.data.get("split_fingerprint"), card.data.get("initial_weights")
