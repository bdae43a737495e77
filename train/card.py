"""What a model file says of itself: the metadata beside the weights, one JSON text under the key `dfpipe`.

Nothing heavy is imported here: who only reads a card, as `dfpipe infer` does before it starts its workers, does not wait
for torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfpipe import __version__
from dfpipe.config import FacesConfig, HeadConfig, from_mapping
from dfpipe.errors import ConfigError, ModelFileError
from dfpipe.train.tensorfile import TensorFile, open_tensors

VERSION = 2  # 1 had no head
KEY = "dfpipe"
STORAGES = ("float32", "float16")  # torch's names of the types in which a file may hold its weights
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


def read_card(path: Path, shipped: bool = False) -> ModelCard:
    """Reads what a model file says of itself, without its weights.

    Args:
        path: The file.
        shipped: See `open_tensors`.

    Raises:
        ModelFileError: Missing, damaged, not one of ours, or of a newer version.
    """
    return card_of(open_tensors(path, shipped))


def card_of(file: TensorFile) -> ModelCard:
    """What the metadata of a model file say.

    Raises:
        ModelFileError: Nothing of ours, or of a newer version.
    """
    text = file.metadata.get(KEY)
    if text is None:
        raise ModelFileError(
            f"{file.path} was not written by dfpipe: it does not say how it scores; name a file that 'dfpipe train' wrote"
        )
    try:
        return _card_from(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, ConfigError) as error:
        raise ModelFileError(
            f"{file.path}: its description cannot be understood ({error}): update dfpipe, or name another file"
        ) from error


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
