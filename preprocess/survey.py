"""All numbers of a folder of extracted faces: counts, states, sizes, measures of the crops, candidates for duplicates."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dfpipe import __version__
from dfpipe.preprocess import tallies
from dfpipe.preprocess.duplicates import DISTANCE, Pairs, is_flat, near_pairs
from dfpipe.preprocess.looks import Fault, Look, absent, look_at, rows_to_compare, sample_rows
from dfpipe.preprocess.manifest import Manifest
from dfpipe.preprocess.tallies import LABELS, UNNAMED, Spread
from dfpipe.types import State

NAMES_SHOWN = 50  # faulty crops named
REASONS_SHOWN = 20
SIZES_SHOWN = 10


@dataclass(frozen=True)
class Measure:
    """One histogram of the page."""

    title: str
    unit: str
    log: bool
    bins: Callable[[tallies.Values], tallies.Values]


MEASURES = {
    "frames_with_face": Measure("Frames with a face per clip", "frames", False, tallies.whole_bins),
    "box_side": Measure("Longer side of the face box before scaling", "px", True, tallies.octave_bins),
    "confidence": Measure("Confidence of the face detector", "confidence, 0 to 1", False, tallies.share_bins),
    "brightness": Measure("Brightness", "mean luma, 0 to 255", False, tallies.byte_bins),
    "sharpness": Measure("Sharpness", "variance of the Laplacian", True, tallies.decade_bins),
}


@dataclass(frozen=True, eq=False)
class Seen:
    """All that was read, before any number is made of it."""

    manifest: Manifest
    inputs: list[dict[str, Any]]
    missing: list[int]  # row numbers
    looks: dict[int, Look | Fault]
    sampled: list[int]  # row numbers of the even sample
    compared: list[int]  # row numbers whose hashes were compared
    flat: int
    pairs: Pairs


def see(manifest: Manifest, inputs: list[dict[str, Any]], sample: int, workers: int = 0) -> Seen:
    """Opens the crops of the sample and of the search for duplicates, each once, and compares hashes.

    Args:
        manifest: Of the crops.
        inputs: Rows of inputs.parquet.
        sample: Crops to measure, 0 = all.
        workers: Threads, 0 = one per core.
    """
    sampled, compared = sample_rows(manifest, sample), rows_to_compare(manifest)
    looks = look_at(manifest, [*sampled, *compared], workers)
    codes = {row: look.code for row in compared if isinstance(look := looks[row], Look)}
    rows = [row for row, code in codes.items() if not is_flat(code)]
    pairs = near_pairs([codes[row] for row in rows], [_split(manifest, row) for row in rows])
    return Seen(manifest, inputs, absent(manifest), looks, sampled, rows, len(codes) - len(rows), pairs)


def _split(manifest: Manifest, row: int) -> str:
    return str(manifest.columns["split"][row] or UNNAMED)


def summarise(seen: Seen, spreads: Mapping[str, Spread], sample: int) -> dict[str, Any]:
    """All numbers as plain values: what summary.json holds and the page shows."""
    columns, inputs = seen.manifest.columns, seen.inputs
    return {
        "dfpipe": __version__,
        "folder": str(seen.manifest.folder),
        "inputs": len(inputs),
        "crops": len(seen.manifest),
        "counts": {
            key: {
                "inputs": tallies.cross([row[key] for row in inputs], [row["label"] for row in inputs]),
                "crops": tallies.cross(columns[key], columns["label"]),
            }
            for key in ("split", "method", "dataset")
        },
        "states": dict(Counter(str(row["state"]) for row in inputs).most_common()),
        "reasons": tallies.reasons_of(inputs, REASONS_SHOWN),
        "clips": _clips(seen),
        "stills": _stills(inputs),
        "measures": {name: asdict(spread) for name, spread in spreads.items()},
        "sample": {"at_most": sample, "crops": len(seen.sampled), "measured": len(_measured(seen))},
        "files": _files(seen),
        "duplicates": _duplicates(seen),
    }


def _clips(seen: Seen) -> dict[str, Any]:
    """People per clip, a person being a track."""
    columns, clips = seen.manifest.columns, _clip_rows(seen.inputs)
    tracks = {*zip(columns["media_id"], columns["track"], strict=True)}
    people = Counter(media_id for media_id, _ in tracks)
    numbers = [people[row["media_id"]] for row in clips]
    labels = [row["label"] for row in clips]
    ordered = sorted(tallies.cross(numbers, labels).items(), key=lambda entry: int(entry[0]))
    return {"clips": len(clips), "people": dict(ordered)}


def _clip_rows(inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in inputs if row["kind"] == "video" and not State(row["state"]).failed]


def _stills(inputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    sizes = Counter(
        (row["width"], row["height"]) for row in inputs if row["kind"] == "image" and row["width"] and row["height"]
    )
    commonest = sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0]))[:SIZES_SHOWN]
    return {
        "stills": sum(sizes.values()),
        "sizes": len(sizes),
        "commonest": [{"width": w, "height": h, "stills": count} for (w, h), count in commonest],
    }


def _measured(seen: Seen) -> list[tuple[int, Look]]:
    return [(row, look) for row in seen.sampled if isinstance(look := seen.looks[row], Look)]


def spreads_of(seen: Seen) -> dict[str, Spread]:
    """The distribution of every measure in MEASURES."""
    columns, clips, measured = seen.manifest.columns, _clip_rows(seen.inputs), _measured(seen)
    boxes = zip(*(columns[key] for key in ("x1", "y1", "x2", "y2")), strict=True)
    sides = [None if None in box else max(box[2] - box[0], box[3] - box[1]) for box in boxes]
    as_is = columns.get("as_is", [False] * len(seen.manifest))  # taken whole: no detector looked at it
    found = [None if whole else value for whole, value in zip(as_is, columns["confidence"], strict=True)]
    labels = [columns["label"][row] for row, _ in measured]
    values = {
        "frames_with_face": ([row["frames_with_face"] for row in clips], [row["label"] for row in clips]),
        "box_side": (sides, columns["label"]),
        "confidence": (found, columns["label"]),
        "brightness": ([look.brightness for _, look in measured], labels),
        "sharpness": ([look.sharpness for _, look in measured], labels),
    }
    return {name: tallies.spread(*values[name], measure.bins) for name, measure in MEASURES.items()}


def _files(seen: Seen) -> dict[str, Any]:
    damaged = sorted(row for row, look in seen.looks.items() if look is Fault.DAMAGED)
    crops = seen.manifest.columns["crop"]
    return {
        "opened": len(seen.looks),
        "missing": len(seen.missing),
        "damaged": len(damaged),
        "missing_names": [crops[row] for row in seen.missing[:NAMES_SHOWN]],
        "damaged_names": [crops[row] for row in damaged[:NAMES_SHOWN]],
    }


def _duplicates(seen: Seen) -> dict[str, Any]:
    found = Counter[str]()
    for record in pair_records(seen):
        found.update({key: int(record[key]) for key in ("labels_differ", "same_file")})
    return {
        "compared": len(seen.compared),
        "flat": seen.flat,
        "splits": len({_split(seen.manifest, row) for row in seen.compared}),
        "distance": DISTANCE,
        "pairs": seen.pairs.found,
        "listed": len(seen.pairs.first),
        "label_conflicts": found["labels_differ"],
        "same_file": found["same_file"],
        "by_distance": {str(bits): count for bits, count in seen.pairs.by_distance.items()},
    }


def pair_records(seen: Seen) -> Iterator[dict[str, Any]]:
    """Describes the candidates, nearest first; `a_row` and `b_row` are rows of the manifest."""
    columns, contents = seen.manifest.columns, {row["media_id"]: row["sha256"] for row in seen.inputs}
    for first, second, distance in zip(seen.pairs.first, seen.pairs.second, seen.pairs.distance, strict=True):
        rows = {"a": seen.compared[first], "b": seen.compared[second]}
        one, other = (contents.get(columns["media_id"][row]) for row in rows.values())
        record: dict[str, Any] = {
            "distance": int(distance),
            "same_file": bool(one) and one == other,
            "labels_differ": columns["label"][rows["a"]] != columns["label"][rows["b"]],
        }
        for side, row in rows.items():
            record |= {f"{side}_{key}": columns[key][row] for key in ("split", "dataset", "name", "crop")}
            record |= {f"{side}_label": LABELS[columns["label"][row]], f"{side}_row": row}
        yield record
