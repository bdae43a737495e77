"""Do faces and model belong together? Refuses crops that a model would not cut so, and what it was trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

from dfpipe.errors import DataError, LeakError, UsageError
from dfpipe.preprocess.groups import group_key
from dfpipe.preprocess.manifest import Manifest, read_faces
from dfpipe.train.card import ModelCard
from dfpipe.train.provenance import overlap
from dfpipe.train.rows import MIXED_SCALES

LEAKS = ("refuse", "drop", "keep")  # what to do with inputs that a model was trained on


def misfits(card: ModelCard, manifest: Manifest, rows: Sequence[int]) -> list[str]:
    """In what crops differ from those that the model would cut itself. Empty if they fit."""
    made, wanted = read_faces(manifest.folder), card.faces
    columns = manifest.columns
    scales = [columns["crop_scale"][row] for row in rows]
    as_is = [bool(columns["as_is"][row]) for row in rows]
    found = []
    if max(scales) > MIXED_SCALES * wanted.crop_scale or wanted.crop_scale > MIXED_SCALES * min(scales):
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
            f"the crops in {manifest.folder} do not fit {name}: {'; '.join(found)}: name the clips or stills themselves "
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
        raise UsageError(f"unknown --leaks {leaks!r}; there are: {', '.join(LEAKS)}")
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
        f"{name} must not be measured on its training data: {told}; choose another --split or --data, leave them out with "
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
    return manifest.take(kept)


def _leaked(card: ModelCard, items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """Inputs of groups that the model saw, and copies of files that it saw; None if its file does not say."""
    groups = [group_key(row["dataset"], row["group"]) for row in items]
    found = overlap(card.data, {"groups": groups, "contents": [row["sha256"] for row in items if row["sha256"]]})
    if found is None:
        return None
    seen = set(found)
    return [row for row, group in zip(items, groups, strict=True) if group in seen or row["sha256"] in seen]
