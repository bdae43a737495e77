"""Models over labelled faces: which crops, whether they fit the model and were not trained on, and their scores."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from dfpipe.config import Config, FacesConfig, from_mapping
from dfpipe.errors import DataError, LeakError, ModelFileError, SourceError, UsageError
from dfpipe.infer.detector import Detector
from dfpipe.infer.scores import SCHEMA, Scores
from dfpipe.preprocess.groups import compression_of
from dfpipe.preprocess.looks import Fault, read_crop, spread_over
from dfpipe.preprocess.manifest import CONFIG, Manifest
from dfpipe.preprocess.splits import SPLITS
from dfpipe.train.modelfile import ModelCard
from dfpipe.train.provenance import group_key, overlap
from dfpipe.train.runlog import read_metrics
from dfpipe.types import FaceBox, FaceCrop

log = logging.getLogger(__name__)

ALL = "all"  # instead of a split
LEAKS = ("refuse", "drop", "keep")  # what to do with inputs that a model was trained on
SCALE_TOLERANCE = 1.05  # crops whose scales differ by more than this factor do not look alike to a network
MODEL = "model.safetensors"  # its name in every run folder
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
        raise UsageError(f"no split {split!r}: there are {', '.join(SPLITS)} and {ALL}")
    rows = list(range(len(manifest))) if split == ALL else manifest.rows_of(split)
    if not rows:
        held = ", ".join(f"{name} {len(manifest.rows_of(name))}" for name in SPLITS)
        raise DataError(f"no crops in split {split!r} of {manifest.folder} ({held}): name another --split")
    return rows


# ---- do crops and model belong together? -----------------------------------------------------------------------------


def faces_of(folder: Path) -> FacesConfig:
    """How the faces of a folder were found and cut.

    Raises:
        DataError: Its config.yaml is missing or damaged.
    """
    path = folder / CONFIG
    try:
        return from_mapping(Config, yaml.safe_load(path.read_text(encoding="utf-8"))).preprocess.faces
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise DataError(f"{path} is missing or damaged: run the same 'dfpipe extract' again") from error


def misfits(card: ModelCard, manifest: Manifest, rows: Sequence[int]) -> list[str]:
    """In what crops differ from those that the model would cut itself. Empty if they fit."""
    made, wanted = faces_of(manifest.folder), card.faces
    columns = manifest.columns
    scales = [columns["crop_scale"][row] for row in rows]
    as_is = [bool(columns["as_is"][row]) for row in rows]
    found = []
    if max(scales) > SCALE_TOLERANCE * wanted.crop_scale or wanted.crop_scale > SCALE_TOLERANCE * min(scales):
        span = f"{min(scales):.2f}" if min(scales) == max(scales) else f"{min(scales):.2f} to {max(scales):.2f}"
        found.append(f"they are of scale {span}, the model wants {wanted.crop_scale:.2f}")
    if not all(as_is) and made.detector != wanted.detector:
        found.append(f"their faces were found by {made.detector}, the model wants {wanted.detector}")
    if wanted.align != made.align and not all(as_is):
        found.append(f"they are {'' if made.align else 'not '}aligned, the model wants them otherwise")
    if wanted.align and any(as_is):
        found.append("some were face crops before and are not aligned, the model wants aligned ones")
    return found


def check_fit(name: str, card: ModelCard, manifest: Manifest, rows: Sequence[int], allowed: bool) -> list[str]:
    """Refuses crops that were cut otherwise than the model's, unless asked for.

    Returns:
        What does not fit, where that is allowed.

    Raises:
        DataError: They do not fit.
    """
    found = misfits(card, manifest, rows)
    if found and not allowed:
        raise DataError(
            f"the crops in {manifest.folder} do not fit {name}: {'; '.join(found)}. Name the clips or stills themselves "
            "with --data (faces are then cut as the model wants them), or ask for these crops with --any-crops"
        )
    return found


def check_leaks(
    name: str,
    card: ModelCard,
    manifest: Manifest,
    inputs: Sequence[Mapping[str, Any]],
    rows: Sequence[int],
    own_splits: bool,
    leaks: str,
) -> tuple[str, set[str]]:
    """Looks for inputs whose group the model was trained on, and for copies of files that it was trained on.

    Args:
        name: Of the model.
        card: Of the model.
        manifest: Of the crops.
        inputs: Rows of inputs.parquet.
        rows: Crops to be scored.
        own_splits: Whether the column split says what models were trained on.
        leaks: What to do with them, one of `LEAKS`.

    Returns:
        What was found, in a sentence for the page, and the media ids to leave out.

    Raises:
        UsageError: `leaks` is none of `LEAKS`.
        LeakError: There are some; names the first offenders.
    """
    if leaks not in LEAKS:
        raise UsageError(f"leaks can be {', '.join(LEAKS)}, not {leaks!r}")
    media = {manifest.columns["media_id"][row] for row in rows}
    items = [row for row in inputs if row["media_id"] in media]
    found = _leaked(card, items)
    how = "by the groups and files that the model file names as trained on"
    if found is None and not own_splits:
        return "not checked: the model file does not say what it was trained on", set()
    if found is None:
        found = [row for row in items if row["split"] == "train"]
        how = "by the manifest's split only: the model file does not say what it was trained on"
    if not found:
        return f"none found, {how}", set()
    told = f"{len(found)} of {len(items)} inputs are of sources that it was trained on ({_names(found)})"
    if leaks == "keep":
        return f"{told}: THE FIGURES ARE TOO GOOD", set()
    if leaks == "drop" and len(found) < len(items):
        return f"{told}; they are left out, {how}", {row["media_id"] for row in found}
    raise LeakError(
        f"{name} must not be measured on its training data: {told}. Choose another --split or --data, leave them out with "
        "--leaks drop, or measure all the same with --leaks keep"
    )


def _names(found: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(group_key(row["dataset"], row["group"]) for row in found))
    return ", ".join(names[:5]) + (f", and {len(names) - 5} groups more" if len(names) > 5 else "")


def without(manifest: Manifest, media_ids: set[str]) -> Manifest:
    """The same manifest without the crops of some inputs."""
    if not media_ids:
        return manifest
    kept = [row for row, media_id in enumerate(manifest.columns["media_id"]) if media_id not in media_ids]
    return Manifest(manifest.folder, {name: [values[row] for row in kept] for name, values in manifest.columns.items()})


def _leaked(card: ModelCard, items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """Inputs of groups that the model saw, and copies of files that it saw; None if its file does not say."""
    groups = [group_key(row["dataset"], row["group"]) for row in items]
    found = overlap(card.data, {"groups": groups, "contents": [row["sha256"] for row in items if row["sha256"]]})
    if found is None:
        return None
    seen = set(found)
    return [row for row, group in zip(items, groups, strict=True) if group in seen or row["sha256"] in seen]


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


def media_kinds(data: Path) -> list[str]:
    """Whether a source holds clips, stills or both.

    Raises:
        SourceError: Neither.
    """
    from dfpipe.preprocess.sources import scan

    kinds, errors = [], []
    for kind in ("videos", "images"):
        try:
            scan(data, kind)
            kinds.append(kind)
        except SourceError as error:
            errors.append(error)
    if not kinds:
        raise errors[0]
    return kinds
