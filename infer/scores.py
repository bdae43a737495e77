"""The table of scores: every frame with its score, and every input that has none, so that all can be computed again.

`scores.parquet` has a row for each scored face of each model, and one row without a score for each input that could not be
scored, with its state. What is needed to join frames to people and clips (aggregate, least number of frames, threshold and
band of each model) lies in its metadata.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dfpipe.errors import DataError, SourceError
from dfpipe.files import atomic_file

VERSION = 1
_KEY = b"dfpipe_scores"
REQUIRED = ("media_id", "label", "p_fake")
SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("media_id", pa.string()),
        ("dataset", pa.string()),
        ("name", pa.string()),  # path inside the dataset
        ("label", pa.int8()),  # 0 real, 1 fake, null unknown
        ("method", pa.string()),
        ("group", pa.string()),  # what shares a source: drawn together by the bootstrap
        ("split", pa.string()),
        ("kind", pa.string()),  # video or image
        ("compression", pa.string()),  # as the publisher names it (c23, c40), "" where unknown
        ("state", pa.string()),  # of the input
        ("frames_wanted", pa.int32()),
        ("bits_per_pixel", pa.float64()),  # of a clip's file, null where unknown
        ("frame_index", pa.int32()),  # null, like all below, where the input has no score
        ("time_s", pa.float64()),
        ("track", pa.int16()),
        ("face_side", pa.float64()),  # px, longer side of the face box in the full frame
        ("crop", pa.string()),  # path of the picture inside the folder of crops
        ("p_fake", pa.float64()),
    ]
)
_DEFAULTS: dict[str, Any] = {  # for tables that others made: what is not said
    "model": "scores",
    "dataset": "",
    "name": None,  # media_id
    "method": "",
    "group": None,  # media_id
    "split": None,
    "kind": "image",
    "compression": "",
    "state": None,  # ok where there is a score
    "frames_wanted": None,  # as many as there are
    "bits_per_pixel": None,
    "frame_index": None,  # their order
    "time_s": 0.0,
    "track": 0,
    "face_side": None,
    "crop": None,
}


@dataclass(frozen=True)
class Scores:
    """Scores of one or several models as columns of equal length, and what is needed to read them."""

    columns: Mapping[str, list[Any]]
    about: dict[str, Any] = field(default_factory=dict)  # data, split, aggregate, min_frames, models: name -> facts

    def __len__(self) -> int:
        return len(self.columns["media_id"])

    @property
    def models(self) -> list[str]:
        """Names, in the order in which they were scored."""
        return list(dict.fromkeys(self.columns["model"]))

    def of(self, model: str) -> "Scores":
        """The rows of one model."""
        rows = [i for i, name in enumerate(self.columns["model"]) if name == model]
        return self.take(rows)

    def take(self, rows: Sequence[int]) -> "Scores":
        """Some rows, in the given order."""
        return Scores({name: [values[i] for i in rows] for name, values in self.columns.items()}, self.about)


def joined(tables: Sequence[Scores], about: dict[str, Any]) -> Scores:
    """Tables one below the other."""
    return Scores({name: [v for t in tables for v in t.columns[name]] for name in SCHEMA.names}, about)


def write_scores(path: Path, scores: Scores) -> None:
    """Writes a table, whole or not at all."""
    about = json.dumps({**scores.about, "schema": VERSION})
    table = pa.table(dict(scores.columns), schema=SCHEMA.with_metadata({_KEY: about.encode()}))
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_scores(path: Path) -> Scores:
    """Reads and checks a table of scores, ours or one that others made.

    Others need only the columns media_id, label (0 real, 1 fake) and p_fake (0..1, null where an input has no score); any
    column of `SCHEMA` may be added. Without `group` every input is a group of its own.

    Raises:
        SourceError: There is none.
        DataError: Damaged, without labels, or with values that cannot be.
    """
    if not path.is_file():
        raise SourceError(f"no scores at {path}: name the scores.parquet that 'dfpipe evaluate' wrote")
    try:
        with path.open("rb") as file:
            table = pq.read_table(file)
        about = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is no table of scores, or damaged ({error}): evaluate again") from error
    if not isinstance(about, dict) or about.get("schema", VERSION) != VERSION:
        raise DataError(f"{path} is of another version, this dfpipe reads {VERSION}: evaluate again")
    if missing := [name for name in REQUIRED if name not in table.column_names]:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}: needed are {', '.join(REQUIRED)}")
    columns = {name: table.column(name).to_pylist() for name in SCHEMA.names if name in table.column_names}
    scores = Scores(_completed(columns), {k: v for k, v in about.items() if k != "schema"})
    check(scores, str(path))
    return scores


def _completed(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    ids = [str(value) for value in columns["media_id"]]
    count = len(ids)
    for name, value in _DEFAULTS.items():
        columns.setdefault(name, list(ids) if name in ("name", "group") else [value] * count)
    known = [value is not None for value in columns["p_fake"]]
    columns["state"] = [
        state or ("ok" if scored else "no_face") for state, scored in zip(columns["state"], known, strict=True)
    ]
    per_input: dict[tuple[str, str], int] = {}
    order = []
    for key in zip(columns["model"], ids, strict=True):
        order.append(per_input.get(key, 0))
        per_input[key] = order[-1] + 1
    columns["frame_index"] = [
        (place if index is None else index) if scored else None
        for index, place, scored in zip(columns["frame_index"], order, known, strict=True)
    ]
    columns["frames_wanted"] = [
        per_input[key] if wanted is None else wanted
        for wanted, key in zip(columns["frames_wanted"], zip(columns["model"], ids, strict=True), strict=True)
    ]
    return {name: columns[name] for name in SCHEMA.names}


def check(scores: Scores, what: str) -> None:
    """Refuses a table that nothing can be measured on.

    Raises:
        DataError: No rows, no labels, a label that is neither 0 nor 1, a score outside 0..1, an input with two labels, or a
            picture outside its folder.
    """
    labels, p_fake = scores.columns["label"], scores.columns["p_fake"]
    if not len(scores):
        raise DataError(f"{what} holds no rows: there is nothing to evaluate")
    if wrong := {label for label in labels if label not in (0, 1, None)}:
        raise DataError(f"{what}: labels {sorted(wrong)} are neither 0 (real) nor 1 (fake)")
    if all(label is None for label in labels):
        raise DataError(f"{what} has no labels: scores can only be measured where it is known what is real and fake")
    known = np.array([p for p in p_fake if p is not None], dtype=float)
    if not ((known >= 0) & (known <= 1)).all():
        raise DataError(f"{what}: p_fake must lie in 0..1; logits and percentages must be turned into probabilities")
    for crop in scores.columns["crop"]:
        if crop is not None and (Path(crop).is_absolute() or ".." in Path(crop).parts):
            raise DataError(f"{what}: crop {crop!r} points outside the folder")
    told: dict[str, Any] = {}
    for media_id, label in zip(scores.columns["media_id"], labels, strict=True):
        if told.setdefault(media_id, label) != label:
            raise DataError(f"{what}: input {media_id} has two labels")
