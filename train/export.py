"""Model files for other runtimes: ONNX, checked against torch before the file appears.

The exported network takes crops as `FaceClassifier` does and gives its logit:

    images  float32 (N, 3, S, S), RGB, 0..1: a crop cut as the description says, resized bilinearly with antialiasing
    logit   float32 (N,), above 0 leans to fake; p_fake = 1 / (1 + exp(-logit / temperature)), with the temperature of the
            description's calibration, 1 where there is none

N is free. The description, the same JSON as in the model file, is in the metadata under `dfpipe`.
"""

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfpipe.errors import ConfigError, DataError, ModelFileError
from dfpipe.files import atomic_file
from dfpipe.preprocess.manifest import read_manifest
from dfpipe.preprocess.mirror import source_of
from dfpipe.train.dataset import CropDataset
from dfpipe.train.modelfile import Network, load_model
from dfpipe.train.openmodel import Model
from dfpipe.train.tensorfile import open_tensors

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT, DESCRIPTION = "images", "logit", "dfpipe"
TOLERANCE = 1e-4  # of the logit, and of its size where that is above 1: float32 carries 7 digits
BATCHES = (1, 5, 5, 5)  # crops at once in the check
RANDOM = "seeded random pictures"


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was checked."""

    path: Path
    checked_on: str  # which pictures
    pictures: int
    difference: float  # the largest, of a logit


def export_onnx(model: Path, out: Path, data: Path | None = None) -> Exported:
    """Writes a model as ONNX, whole and checked or not at all.

    Args:
        model: A model file.
        out: The ONNX file; one that is there is replaced.
        data: Folder of extracted faces whose validation crops the check uses; None = `RANDOM`.

    Raises:
        ModelFileError: The model file is refused, its network cannot be exported, or the result differs from it.
        SourceError, DataError: No crops in `data`.
        ConfigError: The packages are missing.
        ResourceError: The disk is full.
    """
    onnxruntime = [_needed(name) for name in PACKAGES][-1]
    loaded = load_model(model)
    pictures, where = check_pictures(loaded, data)
    with atomic_file(out) as temporary:
        _program(loaded).save(str(temporary), external_data=False)
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        difference = _difference(loaded.network, session, pictures)
        if not difference <= TOLERANCE:
            raise ModelFileError(
                f"{out} is not written: onnxruntime and torch differ by {difference:.2g} on {where}, more than {TOLERANCE:g}"
            )
    return Exported(out, where, len(pictures), difference)


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"exporting to ONNX needs {name}: pip install dfpipe[export]") from error


def _program(loaded: Model) -> Any:
    """The network as ONNX, with its description.

    By torch.export, not by tracing: the older way knows no adaptive pooling to a size that does not divide the input's (VGG
    on crops of 64 px).
    """
    side = loaded.card.image_size
    example = torch.zeros(2, 3, side, side)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                loaded.network,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # of many kinds, without a base in common
        raise ModelFileError(
            f"{loaded.path}: {loaded.card.architecture} cannot be exported ({_first_line(error)})"
        ) from error
    program.model.metadata_props[DESCRIPTION] = open_tensors(loaded.path).metadata[DESCRIPTION]
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about itself."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def check_pictures(loaded: Model, data: Path | None) -> tuple[Tensor, str]:
    """As many pictures as the check wants, (N, 3, S, S), and what they are."""
    side, count = loaded.card.image_size, sum(BATCHES)
    if data is None:
        return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)), RANDOM
    manifest = read_manifest(data)
    rows = [row for row in manifest.rows_of("validation") if manifest.columns["label"][row] is not None]
    if not rows:
        raise DataError(f"no labelled crops in split 'validation' of {data}: leave --data out, or extract more")
    spread = np.linspace(0, len(rows) - 1, count).astype(int)  # a crop may come twice where there are few
    crops = CropDataset(manifest, [rows[i] for i in spread], side, "none")
    return torch.stack([crops[i, 0][0] for i in range(count)]), f"validation crops of {source_of(data)}"


def _difference(network: Network, session: Any, pictures: Tensor) -> float:
    """The largest difference of a logit, divided by the logit where that is above 1."""
    worst = 0.0
    for part in pictures.split(list(BATCHES)):
        with torch.inference_mode():
            ours = network(part).double().numpy()
        (theirs,) = session.run([OUTPUT], {INPUT: part.numpy()})
        apart = np.abs(theirs - ours) / np.maximum(np.abs(ours), 1)
        worst = max(worst, float(apart.max())) if np.isfinite(apart).all() else float("inf")
        if theirs.shape != ours.shape:
            worst = float("inf")
    return worst
