"""The room's second verb: what a folder of extracted faces looks like, as one page, its charts, and all numbers."""

import csv
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dfpipe.errors import SourceError, UsageError
from dfpipe.extras import need
from dfpipe.files import atomic_file, disk_errors, locked, sweep
from dfpipe.names import as_cell
from dfpipe.preprocess import charts
from dfpipe.preprocess.looks import by_label, jpeg_uri, png_uri, sheet, sheet_rows, thumbs
from dfpipe.preprocess.manifest import Manifest, read_inputs, read_manifest
from dfpipe.preprocess.page import environment
from dfpipe.preprocess.survey import MEASURES, Seen, pair_records, see, spreads_of, summarise
from dfpipe.preprocess.tallies import LABELS, Spread
from dfpipe.types import Image

PAGE, SUMMARY, DUPLICATES = "explore.html", "summary.json", "duplicates.csv"
SAMPLE = 4000  # crops: a share of 50 % is then known to 1.6 points (95 %), and two cores need some five seconds
SHEET = 60  # crops per label: what a person takes in at one look
PAIRS_SHOWN = 24  # candidates with pictures; all of them are in DUPLICATES
_SIDES = [f"{side}_{key}" for side in "ab" for key in ("split", "label", "dataset", "name", "crop")]
_CSV_FIELDS = ("distance", "same_file", "labels_differ", *_SIDES)


@dataclass(frozen=True)
class Explored:
    """What was looked at, and where the results lie."""

    out: Path
    page: Path
    summary: Path
    duplicates: Path
    inputs: int
    crops: int
    opened: int  # crops
    missing: int  # crops that the manifest names and that are not there
    damaged: int  # crops among the opened ones
    pairs: int  # candidates for duplicates across splits
    label_conflicts: int  # of these, with different labels
    seconds: float


def explore(folder: Path, out: Path, *, sample: int = SAMPLE, sheet_size: int = SHEET, workers: int = 0) -> Explored:
    """Counts, measures and shows what a folder of extracted faces holds, and looks for duplicates across splits.

    Writes to `out`: explore.html (one file without links to outside), the charts and contact sheets as PNG, summary.json
    with all numbers, and duplicates.csv. The same folder gives the same results.

    Args:
        folder: What `extract` wrote.
        out: Output folder; results of an earlier look are replaced.
        sample: Crops measured for brightness and sharpness, evenly spread, as many of each label; 0 = all.
        sheet_size: Crops on each contact sheet, from 1.
        workers: Threads, 0 = one per core.

    Raises:
        UsageError: A library of the extra `explore` is missing, a number is impossible, or `out` cannot be written.
        SourceError: The folder holds no extraction, or one without any input.
        DataError: A table of the folder is damaged; LeakError: a group sits in two splits.
        ResourceError: Disk full.
    """
    start = time.perf_counter()
    _check(sample, sheet_size)
    manifest, inputs = read_manifest(folder), read_inputs(folder)
    if not inputs and not len(manifest):
        raise SourceError(f"{folder} holds no inputs and no faces: run 'dfpipe extract' on a folder that has some")
    with locked(out):
        sweep(out)
        seen = see(manifest, inputs, sample, workers)
        spreads = spreads_of(seen)
        summary = summarise(seen, spreads, sample)
        sheets = _sheets(manifest, sheet_size)
        pictures = {
            **_charts(summary, spreads),
            **{f"sheet_{name}.png": sheet(small) for name, small in sheets.items() if small},
        }
        summary["seconds"] = round(time.perf_counter() - start, 1)
        _write(out, seen, summary, pictures, _page(seen, summary, pictures, sheets))
    return _explored(out, summary)


def _check(sample: int, sheet_size: int) -> None:
    need("explore", "explore", ["imagehash", "matplotlib"])
    if sample < 0 or sheet_size < 1:
        raise UsageError("a sample holds at least 0 crops (0 = all), and a contact sheet at least 1")


# ---- pictures ------------------------------------------------------------------------------------------------------


def _charts(summary: Mapping[str, Any], spreads: Mapping[str, Spread]) -> dict[str, bytes]:
    """Every chart that compares something: file name -> PNG. What is empty or all the same is said in words instead."""
    counts = summary["counts"]
    tables = {
        "counts_split.png": ("Crops per split", "crops", counts["split"]["crops"]),
        "counts_method.png": ("Crops per method", "crops", counts["method"]["crops"]),
        "counts_dataset.png": ("Crops per dataset", "crops", counts["dataset"]["crops"]),
        "states.png": ("How the inputs ended", "inputs", {k: {"inputs": n} for k, n in summary["states"].items()}),
        "people.png": ("People per clip", "clips", summary["clips"]["people"]),
    }
    drawn = {name: charts.bars(*table) for name, table in tables.items() if len(table[2]) > 1}
    for name, spread in spreads.items():
        if spread.edges and spread.only is None:
            measure = MEASURES[name]
            drawn[f"{name}.png"] = charts.histogram(measure.title, measure.unit, spread, log=measure.log)
    return drawn


def _sheets(manifest: Manifest, size: int) -> dict[str, dict[int, Image]]:
    """Label -> row -> small copy."""
    rows = by_label(manifest)
    chosen = {LABELS[label]: sheet_rows(manifest, rows[label], size) for label in LABELS if label in rows}
    return {name: thumbs(manifest, picked) for name, picked in chosen.items()}


# ---- page and files ------------------------------------------------------------------------------------------------


def _page(
    seen: Seen, summary: Mapping[str, Any], pictures: Mapping[str, bytes], sheets: Mapping[str, Mapping[int, Image]]
) -> str:
    columns = seen.manifest.columns
    faces = {
        name: [
            {"uri": jpeg_uri(p), **{k: columns[k][row] for k in ("name", "method", "split")}}
            for row, p in small.items()
        ]
        for name, small in sheets.items()
    }
    return (
        environment("dfpipe.preprocess", (("number", _number),))
        .get_template(PAGE)
        .render(
            s=summary,
            labels=_labels(summary),
            measures=MEASURES,
            charts={name: png_uri(data) for name, data in pictures.items()},
            sheets=faces,
            pairs=_pairs_with_pictures(seen),
            csv_name=DUPLICATES,
        )
    )


def _labels(summary: Mapping[str, Any]) -> list[str]:
    """The labels that occur, so that no table has a column of zeros."""
    used = {label for counts in summary["counts"]["dataset"].values() for row in counts.values() for label in row}
    return [label for label in LABELS.values() if label in used]


def _pairs_with_pictures(seen: Seen) -> list[dict[str, Any]]:
    records = list(islice(pair_records(seen), PAIRS_SHOWN))
    small = thumbs(seen.manifest, {record[f"{side}_row"] for record in records for side in "ab"})
    uris = {row: jpeg_uri(picture) for row, picture in small.items()}
    return [{**r, "a_uri": uris.get(r["a_row"], ""), "b_uri": uris.get(r["b_row"], "")} for r in records]


def _number(value: float) -> str:
    """Whole numbers with separators; others with as many decimals as a reader can compare."""
    if float(value).is_integer() or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _write(out: Path, seen: Seen, summary: Mapping[str, Any], pictures: Mapping[str, bytes], page: str) -> None:
    """Writes everything, the page last; pictures of an earlier look that have no successor go."""
    with disk_errors(out):
        for name in _all_pictures() - set(pictures):
            (out / name).unlink(missing_ok=True)
    texts = {SUMMARY: json.dumps(summary, indent=2) + "\n", PAGE: page}
    for name, data in pictures.items():
        with atomic_file(out / name) as temporary:
            temporary.write_bytes(data)
    with atomic_file(out / DUPLICATES) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _CSV_FIELDS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({key: as_cell(value) for key, value in record.items()} for record in pair_records(seen))
    for name, text in texts.items():
        with atomic_file(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _all_pictures() -> set[str]:
    bars = {"counts_split", "counts_method", "counts_dataset", "states", "people"}
    return {f"{name}.png" for name in bars | set(MEASURES) | {f"sheet_{label}" for label in LABELS.values()}}


def _explored(out: Path, summary: Mapping[str, Any]) -> Explored:
    files, duplicates = summary["files"], summary["duplicates"]
    return Explored(
        out=out,
        page=out / PAGE,
        summary=out / SUMMARY,
        duplicates=out / DUPLICATES,
        inputs=summary["inputs"],
        crops=summary["crops"],
        opened=files["opened"],
        missing=files["missing"],
        damaged=files["damaged"],
        pairs=duplicates["pairs"],
        label_conflicts=duplicates["label_conflicts"],
        seconds=summary["seconds"],
    )
