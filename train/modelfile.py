"""The model file: weights, and everything that scoring needs beside them, in one safetensors file.

Inference builds its crops, its input and its verdict from this file, never from flags. Nothing is ever unpickled.
The metadata is one JSON text under the key `dfpipe`, the fields of `ModelCard`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from dfpipe import __version__
from dfpipe.config import FacesConfig, HeadConfig, from_mapping, to_mapping
from dfpipe.errors import ConfigError, ModelFileError, ResourceError
from dfpipe.files import atomic_file
from dfpipe.train.ensemble import Ensemble
from dfpipe.train.models import FaceClassifier
from dfpipe.train.tensorfile import TensorFile, open_tensors

Network = FaceClassifier | Ensemble

VERSION = 2  # 1 had no head
_KEY = "dfpipe"
STORAGES = {"float32": torch.float32, "float16": torch.float16}
MAX_MEMBERS = 64  # of an ensemble; each is built before its weights are looked at


@dataclass(frozen=True)
class ModelCard:
    """What a model file says of itself."""

    name: str  # recipe and time of the run
    architecture: str  # as timm knows it
    image_size: int  # px of the square that the network sees; crops are resized bilinearly with antialiasing
    mean: tuple[float, float, float]  # per channel, 0..1, RGB
    std: tuple[float, float, float]
    faces: FacesConfig  # how the crops it was trained on were found and cut
    head: HeadConfig = field(default_factory=HeadConfig)  # what follows the backbone's features
    threshold: float = 0.5  # p_fake from which on the answer is FAKE
    band: tuple[float, float] = (0.4, 0.6)  # p_fake inside it is UNCERTAIN
    calibration: dict[str, Any] | None = None  # None = threshold and band are conventions, not fitted to data
    metrics: dict[str, Any] = field(default_factory=dict)  # split -> metric -> value
    data: dict[str, Any] = field(default_factory=dict)  # what it was trained on: counts, datasets, split fingerprint
    config: dict[str, Any] = field(default_factory=dict)  # of the training run, as resolved
    storage: str = (
        "float32"  # how the file holds the weights, one of `STORAGES`; they are always computed with in float32
    )
    ensemble: dict[str, Any] | None = None  # of several networks: how they are joined, and what each of them is
    code_version: str = __version__
    schema: int = VERSION


# What the fields of a card are in JSON.
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("name", "architecture", "storage", "code_version"), str),
    **dict.fromkeys(("image_size", "schema"), int),
    **dict.fromkeys(("mean", "std", "band"), list),
    **dict.fromkeys(("faces", "head", "metrics", "data", "config"), dict),
    **dict.fromkeys(("calibration", "ensemble"), dict | None),
    "threshold": int | float,
}


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to score, with the hash of its file."""

    network: Network
    card: ModelCard
    path: Path
    sha256: str


def save_model(path: Path, network: Network, card: ModelCard) -> None:
    """Writes a model file, whole or not at all.

    Raises:
        ModelFileError: A weight is too large for the storage that the card asks for.
        ResourceError: The disk is full; the file that was there is intact.
    """
    nested = {"faces": to_mapping(card.faces), "head": to_mapping(card.head)}
    text = json.dumps({**dataclasses.asdict(card), **nested}, allow_nan=False)
    tensors = {name: _stored(name, tensor, card.storage) for name, tensor in network.state_dict().items()}
    with atomic_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={_KEY: text})
        except SafetensorError as error:  # it wraps what the file system says
            raise ResourceError(f"{path} cannot be written ({error}): free disk space and run again") from error


def _stored(name: str, tensor: Tensor, storage: str) -> Tensor:
    """A tensor as the file holds it: whole numbers stay what they are."""
    kept = tensor.detach().cpu().contiguous()
    if kept.is_floating_point():
        kept = kept.to(STORAGES[storage])
        if not bool(torch.isfinite(kept).all()) and bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"tensor {name} holds values too large for {storage}: keep this model in float32")
    return kept


def load_model(path: Path, device: torch.device | None = None, shipped: bool = False) -> LoadedModel:
    """Reads and checks a model file.

    Args:
        path: The file.
        device: Where the network goes; None = the CPU.
        shipped: See `open_tensors`.

    Raises:
        ModelFileError: Missing, damaged, not one of ours, of a newer version, or changed while it was read.
    """
    file = open_tensors(path, shipped)
    card = _card_of(file)
    network = _network(card, file)
    whole = file.read()
    try:
        tensors = load(whole)
    except SafetensorError as error:
        raise ModelFileError(f"{path} is damaged: {error}") from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"{path}: tensor {name} has values that are no numbers: damaged")
    network.load_state_dict(tensors)
    digest = hashlib.sha256(whole).hexdigest()
    return LoadedModel(network.eval().to(device or torch.device("cpu")), card, path, digest)


def _network(card: ModelCard, file: TensorFile) -> Network:
    """The network that a card describes, once its file is known to hold the weights: a lie costs no memory."""
    try:
        with torch.device("meta"):
            shapes = {name: tuple(tensor.shape) for name, tensor in _built(card).state_dict().items()}
    except Exception as error:  # timm raises many kinds for names that it does not know
        raise ModelFileError(
            f"{file.path}: architecture {card.architecture!r} is not known here: update dfpipe and timm"
        ) from error
    if set(file.shapes) != set(shapes):
        raise ModelFileError(f"{file.path}: its tensors are not those of {card.architecture}: the file is damaged")
    for name, shape in shapes.items():
        if file.shapes[name] != shape:
            raise ModelFileError(f"{file.path}: tensor {name} has the shape {file.shapes[name]}, not {shape}: damaged")
    return _built(card)


def _built(card: ModelCard) -> Network:
    if card.ensemble is not None:
        return Ensemble(card.ensemble)
    return FaceClassifier(card.architecture, card.image_size, card.mean, card.std, card.head)


def read_card(path: Path, shipped: bool = False) -> ModelCard:
    """Reads what a model file says of itself, without its weights.

    Args:
        path: The file.
        shipped: See `open_tensors`.

    Raises:
        ModelFileError: Missing, damaged, not one of ours, or of a newer version.
    """
    return _card_of(open_tensors(path, shipped))


def _card_of(file: TensorFile) -> ModelCard:
    text = file.metadata.get(_KEY)
    if text is None:
        raise ModelFileError(f"{file.path} was not written by dfpipe: its metadata do not say how to score with it")
    try:
        return _card_from(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ConfigError) as error:
        raise ModelFileError(f"{file.path}: its description cannot be understood ({error})") from error


def _card_from(values: Mapping[str, Any]) -> ModelCard:
    if values.get("schema") != VERSION:
        raise ValueError(f"schema {values.get('schema')}, this dfpipe reads {VERSION}")
    if values.get("storage", "float32") not in STORAGES:
        raise ValueError(f"storage {values['storage']!r}, this dfpipe knows {', '.join(STORAGES)}")
    fields = {key: value for key, value in values.items() if key in _KINDS}
    for key, value in fields.items():
        if not isinstance(value, _KINDS[key]):
            raise TypeError(f"{key} must be {_KINDS[key]}")
    for key, count in (("mean", 3), ("std", 3), ("band", 2)):
        fields[key] = tuple(float(x) for x in fields[key])
        if len(fields[key]) != count:
            raise ValueError(f"{key} must have {count} values")
    fields["faces"] = from_mapping(FacesConfig, values["faces"], "faces.")
    fields["head"] = from_mapping(HeadConfig, values["head"], "head.")
    card = ModelCard(**fields)
    if card.ensemble is not None and len(card.ensemble["members"]) > MAX_MEMBERS:
        raise ValueError(f"{len(card.ensemble['members'])} members, more than {MAX_MEMBERS}")
    if not (0 <= card.band[0] <= card.threshold <= card.band[1] <= 1 and card.image_size > 0):
        raise ValueError(f"threshold {card.threshold} and band {card.band} make no sense")
    return card
