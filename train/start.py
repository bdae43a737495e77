"""Fine-tuning: a training that begins with the weights of a model file. What that was trained on stays known."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dfpipe.config import FacesConfig, TrainConfig
from dfpipe.errors import ConfigError, DataError
from dfpipe.preprocess.manifest import Manifest
from dfpipe.train.card import ModelCard
from dfpipe.train.models import FaceClassifier
from dfpipe.train.openmodel import Model, open_model
from dfpipe.train.provenance import overlap, trainings
from dfpipe.train.rows import MIXED_SCALES, names_of

log = logging.getLogger(__name__)


def start_of(config: TrainConfig) -> Model | None:
    """The model file that a training begins with, if it is to begin with one.

    Raises:
        ModelFileError: It is refused.
        ConfigError: It holds another network than the one to be trained.
    """
    if not config.start_from:
        return None
    model = open_model(Path(config.start_from))
    card = model.card
    if card.ensemble is not None:
        raise ConfigError(f"train.start_from: {model.path} is an ensemble: name one of the files that it was made of")
    wanted = {
        "train.model": (card.architecture, config.model),
        "train.head.hidden": (card.head.hidden, config.head.hidden),
        "train.head.outputs": (card.head.outputs, config.head.outputs),
    }
    if different := [f"{name}={there}" for name, (there, here) in wanted.items() if there != here]:
        raise ConfigError(
            f"train.start_from: {model.path} holds another network than is to be trained: set {', '.join(different)}"
        )
    return model


def copy_weights(start: Model, network: FaceClassifier) -> None:
    """Overwrites a network, normalisation of the input included.

    Raises:
        ModelFileError: The weights are damaged.
        ConfigError: A network that depends on the size of its input, and another size.
    """
    try:
        network.load_state_dict(start.network.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"train.start_from: the {start.card.architecture} in {start.path} is made for {start.card.image_size} px alone: "
            f"set train.image_size={start.card.image_size}"
        ) from error


def origin_of(start: Model) -> str:
    """Where the first weights come from, for the log and the new model file."""
    data = start.card.data
    datasets, first = ", ".join(data.get("datasets", [])), data.get("initial_weights")
    known = [f"trained on {datasets}"] if datasets else []
    known += [f"from {first}"] if first else []
    return f"{start.card.name or start.path.stem} ({', '.join([_mark(start), *known])})"


def is_start_of(start: Model, card: ModelCard) -> bool:
    """Whether a model was fine-tuned from this file, by what its card says."""
    return f"({_mark(start)}" in str(card.data.get("initial_weights", ""))


def _mark(start: Model) -> str:
    return f"sha256 {start.sha256[:12]}"


def trained_on_with(start: Model, own: Any) -> list[Any] | None:
    """What the new model will have been trained on, for `ModelCard.data["trained_on"]`; None if the old one does not say."""
    earlier = trainings(start.card.data)
    if earlier is None:
        log.warning("%s does not say what it was trained on: later, leaks cannot be found by this model", start.path)
        return None
    return [own, *earlier]


def unseen(start: Model, manifest: Manifest, rows: Sequence[int]) -> list[int]:
    """The crops on which a model that began so may be validated: those of other sources than it was trained on.

    Raises:
        DataError: None is left.
    """
    groups, contents = names_of(manifest, rows)
    seen = set(overlap(start.card.data, {"groups": groups, "contents": filter(None, contents)}) or ())
    kept = [row for row, *names in zip(rows, groups, contents, strict=True) if not seen.intersection(names)]
    told = (
        f"{len(rows) - len(kept)} of {len(rows)} crops to validate on are of sources that {start.path} was trained on"
    )
    if not kept:
        raise DataError(f"{told}: extract other sources, or begin with another model")
    if len(kept) < len(rows):
        log.warning("%s: left out", told)
    return kept


def warn_of_framing(start: Model, faces: FacesConfig) -> None:
    """Says so if the crops show more or less of the faces than those that the model knows."""
    known, now = start.card.faces.crop_scale, faces.crop_scale
    if max(known, now) > MIXED_SCALES * min(known, now):
        log.warning(
            "%s knows faces cut to %.2f times their box, and these are cut to %.2f: less of what it learnt will hold; to "
            "cut as it does, extract with --set preprocess.faces.crop_scale=%g",
            *(start.path, known, now, known),
        )
