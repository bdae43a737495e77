"""Several networks as one: each sees the crop at its own size, and their logits become one."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dfpipe.config import HeadConfig, from_mapping
from dfpipe.train.models import FaceClassifier
from dfpipe.train.transforms import resized

PROBABILITY_FLOOR = 1e-7  # a mean probability of 0 or 1 has no logit


def _mean_prob(logits: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    return torch.logit(torch.sigmoid(logits).mean(0), PROBABILITY_FLOOR)


def _mean_logit(logits: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    return logits.mean(0)


def _stacked(logits: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """A weighted sum, with weights fitted to validation data (Wolpert, Stacked Generalization, 1992)."""
    return (weights[:, None] * logits).sum(0) + bias


ENSEMBLES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mean-prob": _mean_prob,
    "mean-logit": _mean_logit,
    "stacked": _stacked,
}


class Ensemble(nn.Module):
    """Face crops to one logit each, by several networks; above 0 leans to fake.

    Args:
        description: how (a key of `ENSEMBLES`), members (each with architecture, image_size, mean, std, head, and the line
            scale x logit + offset by which it is calibrated), weights and bias of the stack.
        members: The networks; built from the description where not given.
    """

    weights: Tensor
    bias: Tensor
    lines: Tensor

    def __init__(self, description: Mapping[str, Any], members: Sequence[FaceClassifier] | None = None) -> None:
        super().__init__()
        told = description["members"]
        self.how = str(description["how"])
        self._join = ENSEMBLES[self.how]
        self.sizes = [int(one["image_size"]) for one in told]
        self.members = nn.ModuleList(members if members is not None else map(_built, told))
        lines = [[float(one["scale"]), float(one["offset"])] for one in told]
        self.register_buffer("lines", torch.tensor(lines))
        self.register_buffer("weights", torch.tensor([float(w) for w in description["weights"]]))
        self.register_buffer("bias", torch.tensor(float(description["bias"])))

    @property
    def mean(self) -> Tensor:
        """Of the first member: says on which device all of it is."""
        mean = self.members[0].mean
        return mean if isinstance(mean, Tensor) else self.weights

    def forward(self, images: Tensor) -> Tensor:
        """Scores crops.

        Args:
            images: (B, 3, S, S) float in 0..1, RGB, at the size to which crops are cut.

        Returns:
            (B,) float32 logits.
        """
        logits = [member(resized(255 * images, size)) for member, size in zip(self.members, self.sizes, strict=True)]
        calibrated = self.lines[:, :1] * torch.stack(logits).float() + self.lines[:, 1:]
        return self._join(calibrated, self.weights, self.bias)


def _built(one: Mapping[str, Any]) -> FaceClassifier:
    head = from_mapping(HeadConfig, one["head"], "head.")
    return FaceClassifier(str(one["architecture"]), int(one["image_size"]), one["mean"], one["std"], head)


def joined_logits(logits: Tensor, how: str, weights: Sequence[float], bias: float) -> Tensor:
    """What an `Ensemble` makes of the calibrated logits of its members.

    Args:
        logits: (M, N) float64.
        how: A key of `ENSEMBLES`.
        weights: One per member; only for stacked.
        bias: Only for stacked.

    Returns:
        (N,) logits.
    """
    return ENSEMBLES[how](logits, logits.new_tensor(list(weights)), logits.new_tensor(bias))
