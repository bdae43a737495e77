"""Networks: a backbone, a head with one logit, and the normalisation of the input inside."""

from collections.abc import Sequence
from typing import Any, cast

import timm
import torch
from torch import Tensor, nn

from dfpipe.config import HeadConfig, TrainConfig
from dfpipe.errors import ConfigError, choose, did_you_mean
from dfpipe.train.cnns import CNNS
from dfpipe.train.weights import load_imagenet

Triple = tuple[float, float, float]

IMAGENET: tuple[Triple, Triple] = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # mean, std, as torchvision's models have
NORMALISATIONS: dict[str, tuple[Triple, Triple] | None] = {
    "backbone": None,  # what the backbone was pretrained with
    "imagenet": IMAGENET,
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


class FaceClassifier(nn.Module):
    """Face crops to one logit each; above 0 leans to fake.

    The normalisation constants are buffers, so weights and preprocessing cannot part.

    Args:
        architecture: A name of `CNNS` or one that timm knows.
        image_size: Side of the input, px.
        mean: Per channel, in 0..1, RGB.
        std: Per channel, in 0..1, RGB.
        head: What makes a logit of the backbone's features.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        head: HeadConfig | None = None,
    ) -> None:
        super().__init__()
        self.backbone = create_backbone(architecture, image_size)
        head = head or HeadConfig()
        self.head = Head(int(self.backbone.head_hidden_size), head)
        self.mirror = head.mirror
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Scores crops.

        Args:
            images: (B, 3, S, S) float in 0..1, RGB.

        Returns:
            (B,) float32 logits; with `head.mirror` and in eval mode the mean of those of a crop and of its mirror image.
        """
        images = (images - self.mean) / self.std
        logits: Tensor = self.head(self.backbone(images))
        if self.mirror and not self.training:
            mirrored: Tensor = self.head(self.backbone(images.flip(-1)))
            logits = (logits + mirrored) / 2
        return logits


class Head(nn.Module):
    """Features to one logit."""

    def __init__(self, features: int, config: HeadConfig) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, config.hidden) if config.hidden else None
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden or features, config.outputs)
        # timm and torch draw a last layer from +-1 / sqrt(inputs or outputs), made for 1,000 classes. From timm's own
        # the first epoch goes into unlearning logits of +-10 (mean loss 1.7 on DFDC crops, against 0.6 from here).
        nn.init.normal_(self.output.weight, std=0.01)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, F) to (B,) logits, the output layer in float32 also under autocast.

        With two outputs, softmax cross-entropy depends on their difference alone, and equals sigmoid cross-entropy of it.
        """
        if self.hidden is not None:
            features = torch.relu(self.hidden(features))
        features = self.dropout(features)
        if torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                outputs = self.output(features.float())
        else:
            outputs = self.output(features)
        logits: Tensor = outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]
        return logits

    def penalty(self, l2: float) -> Tensor | float:
        """The dense layer's share of the loss: `l2` times the sum of its squared weights."""
        return 0.0 if self.hidden is None or l2 == 0 else l2 * self.hidden.weight.square().sum()


def create_backbone(architecture: str, image_size: int) -> Any:
    """A network without a last layer: (B, 3, S, S) to (B, features).

    Raises:
        ConfigError: Unknown architecture, or pictures too small for one of `CNNS`.
    """
    if architecture in CNNS:
        _check_side(architecture, image_size)
        return CNNS[architecture](image_size)
    if not timm.is_model(architecture):
        hint = did_you_mean(architecture, [*timm.list_models(), *CNNS])
        raise ConfigError(
            f"unknown model {architecture!r}{hint}; any name in timm.list_models() works, and {', '.join(CNNS)}"
        )
    defaults = timm.get_pretrained_cfg(architecture)
    fixed: dict[str, Any] = {"img_size": image_size} if defaults is not None and defaults.fixed_input_size else {}
    backbone: Any = timm.create_model(architecture, num_classes=0, **fixed)
    if not hasattr(backbone, "head_hidden_size"):
        backbone.head_hidden_size = backbone.num_features
    return backbone


def create_model(config: TrainConfig) -> tuple[FaceClassifier, str]:
    """Builds a classifier to train.

    Returns:
        The model, and where its first weights come from, to be shown and stored.

    Raises:
        ConfigError: Unknown architecture or normalisation, or weights that cannot be had.
    """
    mean, std = _normalisation(config)
    model = FaceClassifier(config.model, config.image_size, mean, std, config.head)
    origin = load_imagenet(model.backbone, config)
    return model, origin


def _normalisation(config: TrainConfig) -> tuple[Triple, Triple]:
    chosen = choose(NORMALISATIONS, config.normalise, "train.normalise")
    if chosen is not None:
        return chosen
    defaults = timm.get_pretrained_cfg(config.model) if timm.is_model(config.model) else None
    return cast(tuple[Triple, Triple], (defaults.mean, defaults.std)) if defaults else IMAGENET


def _check_side(architecture: str, image_size: int) -> None:
    if image_size < 10:  # two unpadded convolutions with pooling leave nothing of less
        raise ConfigError(f"{architecture} needs pictures of 10 px and more: raise train.image_size")
