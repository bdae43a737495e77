"""Phases of a training: which part of the network learns, for how long and how fast."""

from dataclasses import dataclass
from typing import Any

import torch
from timm.models import group_parameters
from torch import nn

from dfpipe.config import StageConfig, TrainConfig
from dfpipe.errors import ConfigError
from dfpipe.train.models import FaceClassifier


@dataclass(frozen=True)
class Stage:
    """One phase with every value filled in."""

    free: str  # all | frozen | last N
    epochs: int
    learning_rate: float
    schedule: str
    image_size: int  # px that it trains on
    augment: str


def stages_of(config: TrainConfig) -> list[Stage]:
    """The phases of a training, what they leave out taken from `train`."""
    return [
        Stage(
            stage.free or config.free,
            stage.epochs or config.epochs,
            stage.learning_rate or config.learning_rate,
            stage.schedule or config.schedule,
            stage.image_size or config.image_size,
            stage.augment or config.augment,
        )
        for stage in config.stages or (StageConfig(),)
    ]


def blocks(backbone: Any) -> list[list[str]]:
    """Names of a backbone's parameters, block after block from input to output.

    The division is timm's own, which it uses for layer-wise learning rates: one entry for each residual block, dense
    layer, transformer block and so on.
    """
    grouped = group_parameters(backbone, backbone.group_matcher(coarse=False))
    return [grouped[key] for key in sorted(grouped)]


def set_free(network: FaceClassifier, free: str) -> None:
    """Lets a part of the network learn and freezes the rest. The head always learns.

    Args:
        network: Changed in place.
        free: "all", "frozen" or "last N", N blocks of the backbone.

    Raises:
        ConfigError: The backbone has fewer blocks.
    """
    wanted = _free_names(network, free)
    for name, parameter in network.backbone.named_parameters():
        parameter.requires_grad_(wanted is None or name in wanted)


def _free_names(network: FaceClassifier, free: str) -> set[str] | None:
    """Names of the backbone's parameters that learn; None = all."""
    if free == "all":
        return None
    if free == "frozen":
        return set()
    parts = blocks(network.backbone)
    count = int(free.removeprefix("last "))
    if count > len(parts):
        raise ConfigError(f"train.free: the backbone has {len(parts)} blocks, so 'last {count}' cannot be; use all")
    return {name for part in parts[-count:] for name in part}


def to_training(network: nn.Module) -> None:
    """Training mode for what learns; frozen batch normalisation keeps its statistics, frozen dropout is off."""
    network.train()
    for module in network.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def learning(network: nn.Module) -> list[torch.nn.Parameter]:
    """The parameters that learn."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]
