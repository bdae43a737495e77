"""Heat maps against Grad-CAM worked out by hand, and over real architectures."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dfpipe.errors import UsageError
from dfpipe.infer import heatmap
from dfpipe.infer.heatmap import check_heatmap, heatmaps, painted
from dfpipe.train.ensemble import Ensemble
from dfpipe.train.models import FaceClassifier
from dfpipe.types import Image

SIDE = 64
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


class TinyNet(nn.Module):
    """Two convolutions, the last one halving the side, and the mean over places."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.in_place = in_place

    def forward(self, images: Tensor) -> Tensor:
        maps = self.last(torch.relu(self.first(images)))
        maps = maps.relu_() if self.in_place else torch.relu(maps)
        return maps.mean((2, 3))


def classifier(backbone: nn.Module, features: int) -> FaceClassifier:
    """A classifier around a backbone of our own."""
    torch.manual_seed(0)
    network = FaceClassifier("simple_cnn", 10, ZERO, ONE)
    network.backbone = backbone
    network.head.output = nn.Linear(features, 1)
    return network.eval()


def made(architecture: str, side: int = SIDE) -> FaceClassifier:
    torch.manual_seed(1)
    network = FaceClassifier(architecture, side, (0.5,) * 3, (0.5,) * 3)
    nn.init.normal_(network.head.output.weight)
    return network.eval()


def pictures(count: int = 2, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(2))


def by_hand(
    network: FaceClassifier, images: Tensor, to_maps: Callable[[Tensor], Tensor], rest: Any, side: int
) -> NDArray[np.float32]:
    """Grad-CAM from its definition, picture by picture, (B, side, side)."""
    found = []
    for image in images:
        maps = to_maps((image[None] - network.mean) / network.std).detach().requires_grad_()
        (slope,) = torch.autograd.grad(network.head(rest(maps))[0], maps)
        weights = slope[0].flatten(1).mean(1)
        cam = sum(w * m for w, m in zip(weights, maps[0].detach(), strict=True)).clamp(min=0)
        cam = F.interpolate(cam[None, None], (side, side), mode="bilinear")[0, 0]
        found.append((cam / cam.max()).detach().numpy())
    return np.stack(found)


def plain_cnn_by_hand(network: FaceClassifier, images: Tensor, side: int) -> NDArray[np.float32]:
    net = network.backbone

    def to_maps(x: Tensor) -> Tensor:
        return net.pool(torch.relu(net.conv2(net.pool(torch.relu(net.conv1(x))))))

    return by_hand(network, images, to_maps, lambda m: torch.relu(net.norm(net.dense(m.flatten(1)))), side)


@pytest.mark.parametrize("in_place", [False, True])
def test_it_is_grad_cam(in_place: bool) -> None:
    net = TinyNet(in_place)
    network = classifier(net, 8)
    images = pictures(3)
    expected = by_hand(
        network, images, lambda x: net.last(torch.relu(net.first(x))), lambda m: torch.relu(m).mean((2, 3)), SIDE
    )
    heat = heatmaps(network, images)
    assert heat.shape == (3, SIDE, SIDE)
    assert heat.dtype == np.float32
    np.testing.assert_allclose(heat, expected, atol=1e-5)


def test_of_a_network_that_mirrors_the_mean_of_both_looks() -> None:
    plain, mirroring = made("simple_cnn", 32), made("simple_cnn", 32)
    mirroring.mirror = True
    images = pictures(2, 32)
    flipped = heatmaps(plain, images.flip(-1))[:, :, ::-1]
    assert np.abs(heatmaps(mirroring, images) - heatmaps(mirroring, images.flip(-1))[:, :, ::-1]).max() < 1e-5
    assert np.abs(heatmaps(mirroring, images) - heatmaps(plain, images)).max() > 0.05
    assert np.abs(flipped - heatmaps(plain, images)).max() > 0.05
    assert mirroring.mirror


def test_a_layer_used_twice_counts_at_its_last_use() -> None:
    network = made("simple_cnn", 32)  # its pooling layer serves both blocks
    images = pictures(2, 32)
    np.testing.assert_allclose(heatmaps(network, images), plain_cnn_by_hand(network, images, 32), atol=1e-5)


def test_the_heat_is_where_the_score_comes_from() -> None:
    net = TinyNet()
    network = classifier(net, 8)
    with torch.no_grad():
        for layer in (net.first, net.last):  # brightness passes through channel 0 alone
            layer.weight.zero_()
            layer.bias.zero_()
            layer.weight[0, 0] = 1
        network.head.output.weight.zero_()
        network.head.output.weight[0, 0] = 1
    images = torch.zeros(1, 3, SIDE, SIDE)
    images[0, 0, 40:52, 8:20] = 1
    heat = heatmaps(network, images)[0]
    assert heat.max() == 1
    assert heat[44:48, 12:16].min() > 0.9
    heat[36:56, 4:24] = 0
    assert heat.max() == 0
    with torch.no_grad():
        network.head.output.weight.neg_()  # the same patch now lowers the logit
    assert not heatmaps(network, images).any()


@pytest.mark.parametrize(
    "architecture",
    [
        "tf_efficientnet_lite0",
        "deepfake_detector_cnn",
        "resnet18",
        "mobilenetv3_small_050",
        "swin_tiny_patch4_window7_224",
    ],
)
def test_real_architectures(architecture: str) -> None:
    side = 224 if architecture.startswith("swin") else SIDE
    network = made(architecture, side)
    check_heatmap(network, side)
    heat = heatmaps(network, pictures(2, side))
    assert heat.shape == (2, side, side)
    assert heat.min() >= 0
    assert heat.max() == pytest.approx(1)
    assert np.ptp(heat) > 0.5
    assert np.abs(heat[0] - heat[1]).max() > 0.01


def test_each_picture_has_the_map_that_it_has_alone() -> None:
    network = made("resnet18")
    images = pictures(3)
    alone = np.concatenate([heatmaps(network, image[None]) for image in images])
    np.testing.assert_allclose(heatmaps(network, images), alone, atol=1e-4)


def test_a_transformer_is_refused_before_the_run() -> None:
    network = made("vit_tiny_patch16_224", 224)
    with pytest.raises(UsageError, match="leave out --heatmap"):
        check_heatmap(network, 224)
    with pytest.raises(UsageError, match="tf_efficientnet_lite0"):
        heatmaps(network, pictures(1, 224))
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_without_places_is_refused() -> None:
    flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.Flatten())
    with pytest.raises(UsageError, match="leave out --heatmap"):
        check_heatmap(classifier(flat, 4), SIDE)


def ensemble() -> tuple[Ensemble, list[FaceClassifier]]:
    members = [made("resnet18", SIDE), made("simple_cnn", 32)]
    told = [{"image_size": size, "scale": 1.0, "offset": 0.0} for size in (SIDE, 32)]
    joined = Ensemble({"how": "mean-logit", "members": told, "weights": [0.5, 0.5], "bias": 0.0}, members)
    return joined.eval(), members


def test_an_ensemble_has_the_mean_map_each_member_at_its_own_size() -> None:
    joined, (big, small) = ensemble()
    images = pictures()
    seen: list[Tensor] = []
    joined.members[1].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    joined(images)
    heat = heatmaps(joined, images)
    assert heat.shape == (2, SIDE, SIDE)
    expected = (heatmaps(big, images) + plain_cnn_by_hand(small, seen[0], SIDE)) / 2
    np.testing.assert_allclose(heat, expected, atol=1e-5)
    assert np.abs(heat - heatmaps(big, images)).max() > 0.2
    check_heatmap(joined, SIDE)


def test_one_transformer_in_an_ensemble_is_refused() -> None:
    told = [{"image_size": size, "scale": 1.0, "offset": 0.0} for size in (SIDE, 224)]
    members = [made("resnet18"), made("vit_tiny_patch16_224", 224)]
    joined = Ensemble({"how": "mean-prob", "members": told, "weights": [], "bias": 0.0}, members)
    with pytest.raises(UsageError, match="leave out --heatmap"):
        check_heatmap(joined, SIDE)


def test_the_network_is_left_as_it_was() -> None:
    network = made("mobilenetv3_small_050").train()
    network.head.eval()
    network.backbone.conv_stem.weight.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    free = [parameter.requires_grad for parameter in network.parameters()]
    heatmaps(network, pictures())
    assert torch.is_grad_enabled()
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == free
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_hooks_and_mode_are_put_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    network = made("resnet18").train()

    def fail(_logits: Tensor) -> Tensor:
        raise RuntimeError("no head")

    monkeypatch.setattr(network.head, "forward", fail)
    with pytest.raises(RuntimeError, match="no head"):
        heatmaps(network, pictures())
    assert network.backbone.layer1.training
    assert torch.is_grad_enabled()
    assert not any(module._forward_hooks for module in network.modules())


def test_frozen_networks_and_inference_mode_change_nothing() -> None:
    images = pictures()
    expected = heatmaps(made("resnet18"), images)
    frozen = made("resnet18").requires_grad_(False)
    np.testing.assert_array_equal(heatmaps(frozen, images), expected)
    with torch.inference_mode():
        made_inside = made("resnet18")
        assert made_inside.head.output.weight.is_inference()
        np.testing.assert_array_equal(heatmaps(made_inside, images.clone()), expected)
        assert torch.is_inference_mode_enabled()
    np.testing.assert_array_equal(heatmaps(made_inside, images), expected)


# ---- the painted picture ---------------------------------------------------------------------------------------------


def test_cold_places_stay_as_they_are(portrait: Image) -> None:
    heat = np.zeros((7, 7), np.float32)
    np.testing.assert_array_equal(painted(portrait[:300, :200], heat), portrait[:300, :200])
    heat[3, 3] = 1
    result = painted(portrait[:300, :200], heat)
    assert result.shape == (300, 200, 3)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[:80], portrait[:80, :200])
    assert np.abs(result[140:160, 90:110].astype(int) - portrait[140:160, 90:110]).mean() > 20


def test_the_hottest_place_is_yellow_in_rgb() -> None:
    result = painted(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.float32))
    np.testing.assert_allclose(result[4, 4], heatmap.OPACITY * np.array([253, 231, 37]), atol=2)  # viridis ends there


def test_hotter_is_brighter_in_grey_print() -> None:
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (8, 1))
    brightness = painted(np.zeros((8, 64, 3), np.uint8), ramp)[4] @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(brightness) > -1).all()
    assert brightness[-1] - brightness[0] > 100
