"""Models over labelled faces: which crops, and their scores."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dfpipe.config import LimitsConfig
from dfpipe.errors import DataError, ModelFileError, SourceError, UsageError
from dfpipe.infer.detector import Detector
from dfpipe.infer.scores import SCHEMA, Scores
from dfpipe.preprocess.groups import compression_of
from dfpipe.preprocess.looks import Fault, read_crop, spread_over
from dfpipe.preprocess.manifest import Manifest
from dfpipe.preprocess.splits import SPLITS
from dfpipe.train.fit import MODEL
from dfpipe.train.runlog import read_metrics
from dfpipe.types import FaceBox, FaceCrop

ALL = "all"  # instead of a split
READERS = 4  # threads that decode crops while the network works
_CHUNK = 256  # crops in memory at once: 50 MB
HISTORY = ("epoch", "train_loss", "validation_log_loss", "validation_auc")


def model_files(paths: Sequence[Path]) -> list[Path]:
    """The model files that are named, and those in named folders: of runs the best epoch, else all.

    Raises:
        ModelFileError: A folder without any.
    """
    found: dict[Path, None] = {}
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(path.rglob(MODEL)) or sorted(path.rglob("*.safetensors"))
        if not inside:
            raise ModelFileError(f"no model file (*.safetensors) in {path}: name a file that 'dfpipe train' wrote")
        found.update(dict.fromkeys(inside))
    return list(found)


def rows_of(manifest: Manifest, split: str) -> list[int]:
    """Row numbers of one split, or all.

    Raises:
        UsageError: No such split.
        DataError: It holds no crops.
    """
    if split not in (*SPLITS, ALL):
        raise UsageError(f"unknown split {split!r}; there are: {', '.join((*SPLITS, ALL))}")
    rows = list(range(len(manifest))) if split == ALL else manifest.rows_of(split)
    if not rows:
        held = ", ".join(f"{name} {len(manifest.rows_of(name))}" for name in SPLITS)
        raise DataError(f"no crops in split {split!r} of {manifest.folder} ({held}): name another --split")
    return rows


# ---- scoring ---------------------------------------------------------------------------------------------------------


def score_manifest(
    detector: Detector, model: str, manifest: Manifest, inputs: Sequence[Mapping[str, Any]], split: str, limit: int = 0
) -> Scores:
    """Scores the crops of a split, and lists the inputs of it that have none.

    Args:
        detector: The model.
        model: Its name in the table.
        manifest: Of the crops.
        inputs: Rows of inputs.parquet.
        split: One of `SPLITS`, or `ALL`.
        limit: At most so many inputs, spread evenly; 0 = all.

    Raises:
        DataError: Crops are missing or damaged.
    """
    rows = rows_of(manifest, split)
    if limit:
        ids = sorted({row["media_id"] for row in inputs if split in (ALL, row["split"])})  # hashes: an order that mixes
        kept = set(spread_over(ids, limit))
        rows = [row for row in rows if manifest.columns["media_id"][row] in kept]
        inputs = [row for row in inputs if row["media_id"] in kept]
    p_fake = list(_score(detector, manifest, rows))
    by_id = {row["media_id"]: row for row in inputs}
    found = [
        _row(model, by_id.get(manifest.columns["media_id"][row], {}), _crop_row(manifest, row), p)
        for row, p in zip(rows, p_fake, strict=True)
    ]
    scored = {row["media_id"] for row in found}
    wanted = [row for row in inputs if split in (ALL, row["split"]) and row["media_id"] not in scored]
    found += [_row(model, row, row, None) for row in wanted]
    return Scores({name: [row[name] for row in found] for name in SCHEMA.names})


def _crop_row(manifest: Manifest, row: int) -> dict[str, Any]:
    values = {name: column[row] for name, column in manifest.columns.items()}
    box = [values[key] for key in ("x1", "y1", "x2", "y2")]
    side = None if None in box else float(max(box[2] - box[0], box[3] - box[1]))
    return {**values, "face_side": side}


def _row(model: str, of_input: Mapping[str, Any], values: Mapping[str, Any], p_fake: float | None) -> dict[str, Any]:
    facts = ("media_id", "dataset", "name", "label", "method", "group", "split", "kind")
    face = ("frame_index", "time_s", "track", "face_side", "crop")
    return {
        "model": model,
        **{name: values[name] for name in facts},
        "compression": compression_of(str(values["name"])),
        "state": of_input.get("state") or "ok",
        "bits_per_pixel": of_input.get("bits_per_pixel"),
        "frames_wanted": of_input.get("frames_wanted") or 0 if p_fake is None else of_input.get("frames_wanted") or 1,
        **{name: values.get(name) if p_fake is not None else None for name in face},
        "p_fake": p_fake,
    }


def _score(detector: Detector, manifest: Manifest, rows: Sequence[int]) -> Iterator[float]:
    chunks = [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)]
    with ThreadPoolExecutor(READERS) as pool, tqdm(total=len(rows), desc="score", unit="crop", disable=None) as bar:
        for chunk in chunks:
            crops = list(pool.map(lambda row: _crop(manifest, row), chunk))
            yield from (score.p_fake for score in detector.score(crops))
            bar.update(len(chunk))


def _crop(manifest: Manifest, row: int) -> FaceCrop:
    picture = read_crop(manifest.path(row))
    if isinstance(picture, Fault):
        raise DataError(f"crop {manifest.path(row)} is {picture}: run the same 'dfpipe extract' again")
    return FaceCrop(0, 0.0, 0, FaceBox(0, 0, 1, 1, 1.0), picture)


def history(model: Path) -> list[dict[str, float | None]]:
    """The learning curve that training left beside the model file; empty if there is none."""
    return [{key: row.get(key) for key in HISTORY} for row in read_metrics(model.parent) if row.get("epoch")]


def media_kinds(data: Path, limits: LimitsConfig) -> list[str]:
    """Whether a source holds clips, stills or both.

    Raises:
        SourceError: Neither.
    """
    from dfpipe.preprocess.sources import scan

    kinds, errors = [], []
    for kind in ("videos", "images"):
        try:
            scan(data, kind, limits)
            kinds.append(kind)
        except SourceError as error:
            errors.append(error)
    if not kinds:
        raise errors[0]
    return kinds
