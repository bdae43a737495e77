"""The model file: weights, and everything that scoring needs beside them, in one safetensors file.

Inference builds its crops, its input and its verdict from this file, never from flags. Nothing is ever unpickled.
The metadata is one JSON text under the key `dfpipe`, the fields of `ModelCard`.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dfpipe.config import to_mapping
from dfpipe.errors import ModelFileError
from dfpipe.files import atomic_file
from dfpipe.train.card import KEY, ModelCard
from dfpipe.train.devices import pick_device
from dfpipe.train.ensemble import Ensemble
from dfpipe.train.models import FaceClassifier
from dfpipe.train.openmodel import Model, open_model
from dfpipe.train.tensorfile import TensorFile

Network = FaceClassifier | Ensemble


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
        temporary.write_bytes(
            save(tensors, metadata={KEY: text})
        )  # save_file would let nobody else read it (mode 0600)


def _stored(name: str, tensor: Tensor, storage: str) -> Tensor:
    """A tensor as the file holds it: whole numbers stay what they are."""
    kept = tensor.detach().cpu().contiguous()
    if kept.is_floating_point():
        kept = kept.to(getattr(torch, storage))
        if not bool(torch.isfinite(kept).all()) and bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"tensor {name} holds values too large for {storage}: keep this model in float32")
    return kept


def load_model(path: Path, device: torch.device | None = None, shipped: bool = False) -> Model:
    """Reads and checks a model file, weights and all.

    Args:
        path: The file.
        device: Where the network goes; None = the CPU.
        shipped: See `open_tensors`.

    Raises:
        ModelFileError: Missing, damaged, not one of ours, of a newer version, or changed while it was read.
    """
    model = open_model(path, str(device or "cpu"), shipped)
    model.load()
    return model


def load_network(file: TensorFile, card: ModelCard, sha256: str, device: str) -> Network:
    """Reads and checks the weights of a model file whose header is known.

    Args:
        file: The header.
        card: What the file says of itself.
        sha256: Of the whole file, as it was when that was read.
        device: See `pick_device`.

    Raises:
        ModelFileError: Damaged, or changed since.
        UsageError: No such device.
    """
    place = pick_device(device)
    network = _network(card, file)
    whole = file.read()
    if hashlib.sha256(whole).hexdigest() != sha256:
        raise ModelFileError(f"{file.path} changed while it was read: run the same command again")
    try:
        tensors = load(whole)
    except SafetensorError as error:
        raise ModelFileError(f"{file.path} is damaged: {error}") from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"{file.path}: tensor {name} has values that are no numbers: the file is damaged")
    network.load_state_dict(tensors)
    return network.eval().to(place)


def _network(card: ModelCard, file: TensorFile) -> Network:
    """The network that a card describes, once its file is known to hold the weights: a lie costs no memory."""
    try:
        with torch.device("meta"):
            shapes = {name: tuple(tensor.shape) for name, tensor in _built(card).state_dict().items()}
    except Exception as error:  # timm raises many kinds for names that it does not know
        raise ModelFileError(
            f"{file.path}: architecture {card.architecture!r} is not known here: update dfpipe and timm, or, "
            "if it is a network of your own, run the script that names it"
        ) from error
    if set(file.shapes) != set(shapes):
        raise ModelFileError(f"{file.path}: its tensors are not those of {card.architecture}: the file is damaged")
    for name, shape in shapes.items():
        if file.shapes[name] != shape:
            raise ModelFileError(
                f"{file.path}: tensor {name} has the shape {file.shapes[name]}, not {shape}: the file is damaged"
            )
    return _built(card)


def _built(card: ModelCard) -> Network:
    if card.ensemble is not None:
        return Ensemble(card.ensemble)
    return FaceClassifier(card.architecture, card.image_size, card.mean, card.std, card.head)
