"""Grad-CAM: where in a picture a network found what raised its score (Selvaraju et al., ICCV 2017).

A heat map shows what the score rests on, as coarsely as the network's last feature map is (7 x 7 places for many). It does
not show where a picture was altered: a network that judges by the light of the whole face is warm all over, one that has
learned a flaw of its training data is warm there, and a score that is wrong has a map that looks just as sure.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dfpipe.errors import UsageError
from dfpipe.train.ensemble import Ensemble
from dfpipe.train.modelfile import Network
from dfpipe.train.models import FaceClassifier
from dfpipe.train.transforms import resized
from dfpipe.types import Image

# Brightness rises with the heat all along, so it also reads in grey print and with any colour vision.
COLOURS = cv2.COLORMAP_VIRIDIS
OPACITY = 0.65  # of the hottest place; chosen here: the face under it can still be made out


def heatmaps(network: Network, images: Tensor) -> NDArray[np.float32]:
    """Where each picture raised the logit towards fake.

    The gradient of the logit, averaged over places, weighs the channels of the last feature map; what is negative in their
    sum is dropped, the rest is scaled to the size of the picture and divided by its maximum. So maps tell places of one
    picture apart, and never how fake one picture is against another. Of an ensemble, the mean of its members' maps.

    It is no map of where a picture was altered; see above.

    Args:
        network: Left as it was: no gradients, no hooks, no change of mode. Scores as in eval mode.
        images: (B, 3, S, S) float in 0..1, RGB, on the network's device.

    Returns:
        (B, S, S) in 0..1; all zero for a picture in which nothing raised the logit.

    Raises:
        UsageError: As for `check_heatmap`.
    """
    side = images.shape[-1]
    maps = [_normalised(_seen(member, _at(images, size)), side) for member, size in _members(network, side)]
    return np.asarray(torch.stack(maps).mean(0).cpu().numpy(), np.float32)


def check_heatmap(network: Network, size: int) -> None:
    """Refuses a network that has no feature map to lay over a picture, before a run starts.

    Args:
        network: Left as it was.
        size: Side in px of the pictures that it takes.

    Raises:
        UsageError: It is a transformer over tokens, or nothing in it has more than one place.
    """
    for member, side in _members(network, size):
        with _undisturbed(member):
            _last_map(member, torch.zeros(1, 3, side, side, device=member.mean.device))


def painted(image: Image, heat: NDArray[np.float32]) -> Image:
    """Lays a heat map over a picture; cold places stay as they are.

    Args:
        image: RGB uint8 (H, W, 3).
        heat: (h, w) in 0..1, stretched over the picture.

    Returns:
        RGB uint8 (H, W, 3).
    """
    height, width = image.shape[:2]
    warm = np.clip(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    colours = cv2.cvtColor(cv2.applyColorMap(np.rint(255 * warm).astype(np.uint8), COLOURS), cv2.COLOR_BGR2RGB)
    opacity = OPACITY * warm[:, :, None]
    return np.asarray(np.rint(image * (1 - opacity) + colours * opacity), np.uint8)


def _members(network: Network, size: int) -> list[tuple[FaceClassifier, int]]:
    """The networks to map, with the side in px that each wants."""
    if isinstance(network, Ensemble):
        return list(zip(network.members, network.sizes, strict=True))  # type: ignore[arg-type]
    return [(network, size)]


def _at(images: Tensor, size: int) -> Tensor:
    return images if images.shape[-1] == size else resized(255 * images, size)  # as Ensemble.forward


def _normalised(cam: Tensor, side: int) -> Tensor:
    """(B, h, w) from 0 on to (B, side, side) in 0..1."""
    grown = F.interpolate(cam[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
    peak = grown.amax((1, 2), keepdim=True)
    return torch.where(peak > 0, grown / peak, 0.0)


def _seen(network: FaceClassifier, images: Tensor) -> Tensor:
    """(B, h, w): as `_cam`; of a network that looks at mirror images too, the mean of both."""
    cam = _cam(network, images)
    return (cam + _cam(network, images.flip(-1)).flip(-1)) / 2 if network.mirror else cam


def _cam(network: FaceClassifier, images: Tensor) -> Tensor:
    """(B, h, w): the weighted sum over channels, negative parts dropped.

    Gradients are recorded from the feature map on, so that the memory is that of scoring, not of training.
    """
    with _undisturbed(network):
        layer, last_call = _last_map(network, images[:1])
        leaf = images
        calls = 0

        def cut(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
            nonlocal leaf, calls
            calls += 1
            if calls < last_call:
                return None
            torch.set_grad_enabled(True)  # until `_undisturbed` ends
            leaf = output.detach().clone().requires_grad_()
            return leaf.clone()  # what follows may work in place, which a leaf forbids

        with _hooked([layer], cut):
            logits = _scored(network, images)
        (gradient,) = torch.autograd.grad(logits.sum(), leaf)
        maps, slopes = _channels_first(leaf.detach()).float(), _channels_first(gradient).float()
        return torch.relu((slopes.mean((2, 3), keepdim=True) * maps).sum(1))


def _scored(network: FaceClassifier, images: Tensor) -> Tensor:
    """Logits; of tensors made in inference mode, which no gradient may pass, copies are used."""
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items() if tensor.is_inference()}
    logits: Tensor = torch.func.functional_call(network, copies, (images,))
    return logits


def _last_map(network: FaceClassifier, images: Tensor) -> tuple[nn.Module, int]:
    """The layer of the backbone that gives the last feature map, and at which of its calls (layers can be used twice)."""
    calls: dict[nn.Module, int] = {}
    found: tuple[nn.Module, int] | None = None

    def look(module: nn.Module, _inputs: Any, output: object) -> None:
        nonlocal found
        calls[module] = calls.get(module, 0) + 1
        if not isinstance(output, Tensor):
            return
        if output.ndim == 3 and output.shape[1] > 1:  # tokens: places that had a map are mixed from here on
            found = None
        elif _is_map(output):
            found = (module, calls[module])

    with _hooked(network.backbone.modules(), look):
        network(images)
    if found is None:
        raise UsageError(
            "a heat map needs a network that ends in a feature map, and this one does not: leave out --heatmap, or use a "
            "model such as tf_efficientnet_lite0"
        )
    return found


def _is_map(output: Tensor) -> bool:
    """Whether it has four axes, of them two of space, equal because pictures are square, with more than one place."""
    if output.ndim != 4:
        return False
    height, width = _channels_first(output).shape[2:]
    return height == width > 1


def _channels_first(maps: Tensor) -> Tensor:
    """(B, C, h, h) of a map in that order or in (B, h, h, C), as Swin transformers have it."""
    _, first, second, third = maps.shape
    return maps.permute(0, 3, 1, 2) if first == second != third else maps


@contextlib.contextmanager
def _hooked(modules: Any, hook: Any) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _undisturbed(network: FaceClassifier) -> Iterator[None]:
    """Eval mode without gradients, one look at each picture, and every layer's own mode again afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    mirror, network.mirror = network.mirror, False
    try:
        with torch.inference_mode(False), torch.no_grad():
            network.eval()
            yield
    finally:
        network.mirror = mirror
        for module, mode in modes:
            module.training = mode
