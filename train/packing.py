"""Model files fit to be handed on: half the size, with a name and a licence, and scores that were compared.

Half precision rounds a weight to 11 bits. Rounding errors of so many weights mostly cancel: what they do to the scores is
measured on pictures, not assumed, and a file whose scores move is not written.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dfpipe.errors import ModelFileError
from dfpipe.files import atomic_file
from dfpipe.train.export import check_pictures
from dfpipe.train.modelfile import load_model, save_model

TOLERANCE = 0.01  # of p_fake without calibration: what a reader sees as one per cent


@dataclass(frozen=True)
class Packed:
    """What was written, and how its scores compare."""

    path: Path
    bytes: int
    checked_on: str  # which pictures
    pictures: int
    difference: float  # the largest, of p_fake without calibration


def pack(model: Path, out: Path, name: str = "", licence: str = "", data: Path | None = None) -> Packed:
    """Writes a model file anew with its weights in half precision.

    Args:
        model: A model file.
        out: The file to write; one that is there is replaced.
        name: A new name for it; "" = as it is called.
        licence: Of the weights, for the model card; "" = as it says.
        data: Folder of extracted faces whose validation crops are compared; None = random pictures.

    Raises:
        ModelFileError: The model file is refused, or the scores differ by more than `TOLERANCE`.
        SourceError, DataError: No crops in `data`.
    """
    loaded = load_model(model)
    card = replace(loaded.card, storage="float16", name=name or loaded.card.name)
    if licence:
        card = replace(card, data={**card.data, "licence": licence})
    pictures, where = check_pictures(loaded, data)
    with torch.inference_mode(), atomic_file(out) as temporary:
        save_model(temporary, loaded.network, card)
        apart = loaded.network(pictures).sigmoid() - load_model(temporary).network(pictures).sigmoid()
        difference = float(apart.abs().max())
        if not difference <= TOLERANCE:
            raise ModelFileError(
                f"{out} is not written: in half precision p_fake moves by {difference:.2g} on {where}; allowed is "
                f"{TOLERANCE:g}; hand on the model file as it is"
            )
    return Packed(out, out.stat().st_size, where, len(pictures), difference)
