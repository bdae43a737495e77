"""The room's second verb: how good models are on labelled data, as figures, pictures and one page.

Everything is computed from the table of scores alone, so that anybody who has it can compute it again.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dfpipe.config import Config, FacesConfig, to_mapping
from dfpipe.errors import DataError, UsageError
from dfpipe.files import atomic_file, disk_errors, locked, sweep
from dfpipe.infer.detector import Detector
from dfpipe.infer.ensemble import Stack, check_members, fit_stack, join_scores, save_ensemble
from dfpipe.infer.guards import check_fit, check_leaks, without
from dfpipe.infer.intervals import FEWEST_GROUPS, RESAMPLES
from dfpipe.infer.page import check_libraries, render
from dfpipe.infer.pictures import pictures_of
from dfpipe.infer.record import EVALUATIONS, evaluation_record, record
from dfpipe.infer.results import FEW_GROUPS, results_of
from dfpipe.infer.scores import Scores, joined, read_scores, write_scores
from dfpipe.infer.scores import check as check_scores
from dfpipe.infer.scoring import ALL, history, media_kinds, rows_of, score_manifest
from dfpipe.infer.summary import PART_SHOWN, SHOWN, TITLES, write_tables
from dfpipe.preprocess.crops import resize
from dfpipe.preprocess.extract import extract
from dfpipe.preprocess.looks import THUMB, Fault, jpeg_uri, read_crop, sheet
from dfpipe.preprocess.manifest import MANIFEST, Manifest, read_inputs, read_manifest
from dfpipe.preprocess.mirror import source_of
from dfpipe.types import Image
from dfpipe.workers import Engine

log = logging.getLogger(__name__)

SCORES, METRICS, PAGE = "scores.parquet", "metrics.json", "evaluation.html"
ENSEMBLE = "ensemble.safetensors"
OWN_PICTURE = re.compile(
    r"(roc|precision_recall)_(clip|frame)\.png"
    r"|(confusion|histogram|reliability|learning|real_called_fake|fake_called_real)_\d+\.png"
)


@dataclass(frozen=True)
class Evaluated:
    """The figures, and where they lie."""

    out: Path
    page: Path
    results: dict[str, Any]  # what metrics.json holds


@dataclass(frozen=True)
class Options:
    """How an evaluation is run."""

    split: str = "test"
    resamples: int = RESAMPLES
    any_crops: bool = False  # also crops that do not fit the model
    leaks: str = "refuse"  # what to do with inputs that the model was trained on: one of `LEAKS`
    engine: Engine = "local"
    workers: int = 0
    limit: int = 0  # inputs at most; 0 = all
    ensemble: str = ""  # also all models as one: a key of `ENSEMBLES`


def evaluate(detectors: Mapping[str, Detector], data: Path, out: Path, config: Config, options: Options) -> Evaluated:
    """Scores models on labelled data and measures them at frame, person and clip level.

    Args:
        detectors: Models by name.
        data: A folder of extracted faces, or clips and stills in any known layout, whose faces are then found and cut as
            each model wants them, below `out`.
        out: Gets scores.parquet, metrics.json, evaluation.html, summary.csv, summary.md and the pictures.
        config: Of these, `seed`, `infer` and `preprocess.limits` matter.
        options: See `Options`.

    Raises:
        SourceError: Nothing usable in `data`.
        DataError: No labels, crops that do not fit a model, an empty split; LeakError: groups that a model was trained on.
        UsageError: A library is missing, or `out` cannot be written.
    """
    check_libraries("evaluate")
    if options.ensemble:
        check_members(detectors, options.ensemble)
    with locked(out):
        sweep(out)
        scores = score_all(detectors, data, out, config, options)
        if options.ensemble:
            scores = with_ensemble(scores, detectors, data, out, config, options)
        write_scores(out / SCORES, scores)
        return _publish(scores, out, options.resamples, config.seed)


def evaluate_scores(path: Path, out: Path, resamples: int = RESAMPLES, seed: int = 0) -> Evaluated:
    """Measures again what a table of scores holds, without any model.

    Args:
        path: scores.parquet, ours or one that others made; see `read_scores`.
        out: As for `evaluate`.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        SourceError: No such table.
        DataError: It is damaged or has no labels.
        UsageError: A library is missing, or `out` cannot be written.
    """
    check_libraries("evaluate")
    scores = read_scores(path)
    with locked(out):
        sweep(out)
        return _publish(scores, out, resamples, seed)


def record_all(done: Evaluated, detectors: Mapping[str, Detector]) -> None:
    """Writes the figures of each model into its file."""
    scores = read_scores(done.out / SCORES)
    for name, detector in detectors.items():
        record(detector.model.path, EVALUATIONS, evaluation_record(done.results, name, scores))


# ---- scores ----------------------------------------------------------------------------------------------------------


def score_all(detectors: Mapping[str, Detector], data: Path, out: Path, config: Config, options: Options) -> Scores:
    """Scores every model on the data; see `evaluate`."""
    tables, told = [], {}
    for name, detector in detectors.items():
        table, facts = score_one(name, detector, data, out, config, options)
        tables.append(table)
        told[name] = facts
    about = {
        "data": source_of(data),
        "split": _split_of(data, options),
        "aggregate": config.infer.aggregate,
        "min_frames": config.infer.min_frames,
        "models": told,
    }
    scores = joined(tables, about)
    check_scores(scores, str(data))
    return scores


def with_ensemble(
    scores: Scores, detectors: Mapping[str, Detector], data: Path, out: Path, config: Config, options: Options
) -> Scores:
    """Adds the models as one, and writes it as a model file. A stack is fitted to the validation split of the same data."""
    name = f"ensemble {options.ensemble}"
    stack: Stack = ([1.0] * len(detectors), 0.0)
    if options.ensemble == "stacked":
        if options.split in ("train", "validation", ALL) or not (data / MANIFEST).is_file():
            raise UsageError(
                "a stack is fitted to the validation split of extracted faces and measured on another: use --split test, "
                "or --ensemble mean-logit"
            )
        held = score_all(detectors, data, out, config, replace(options, split="validation"))
        stack = fit_stack(held, list(detectors))
    file = out / ENSEMBLE
    save_ensemble(file, detectors, name, options.ensemble, stack)
    facts = facts_of(Detector.load(file, "cpu"))
    own = scores.about["models"][next(iter(detectors))]
    told = {
        **scores.about["models"],
        name: {**facts, **{key: own[key] for key in ("crops", "misfits", "leaks", "left_out")}},
    }
    table = join_scores(scores, list(detectors), name, options.ensemble, stack)
    return joined([scores, table], {**scores.about, "models": told})


def score_one(
    name: str, detector: Detector, data: Path, out: Path, config: Config, options: Options
) -> tuple[Scores, dict[str, Any]]:
    """Scores one model. Returns the table and facts on the model."""
    manifest, inputs, split, facts = faces_and_split(name, detector, data, out, config, options)
    return score_manifest(detector, name, manifest, inputs, split, options.limit), facts


def faces_and_split(
    name: str, detector: Detector, data: Path, out: Path, config: Config, options: Options
) -> tuple[Manifest, list[dict[str, Any]], str, dict[str, Any]]:
    """The faces to score, after checking that they and the model belong together.

    Returns:
        Manifest, rows of inputs.parquet, the split (or all), and facts on the model.
    """
    extracted = (data / MANIFEST).is_file()
    card = detector.model.card
    folder = data if extracted else _extracted(card.faces, data, out, config, options)
    manifest, inputs = read_manifest(folder), read_inputs(folder)
    split = _split_of(data, options)
    rows = rows_of(manifest, split)
    if all(manifest.columns["label"][row] is None for row in rows):
        raise DataError(f"{data} has no labels: models can only be measured where it is known what is real and fake")
    odd = check_fit(name, card, manifest, rows, options.any_crops)
    leaks, seen = check_leaks(name, card, manifest, inputs, rows, extracted, options.leaks)
    for note in odd:
        log.warning("%s: the crops do not fit: %s", name, note)
    if seen:
        log.warning("%s: %s", name, leaks)
    facts = {**facts_of(detector), "crops": source_of(folder), "misfits": odd, "leaks": leaks, "left_out": len(seen)}
    return without(manifest, seen), [row for row in inputs if row["media_id"] not in seen], split, facts


def _split_of(data: Path, options: Options) -> str:
    """A source is scored whole: the splits that an extraction would give it mean nothing for models trained before."""
    return options.split if (data / MANIFEST).is_file() else ALL


def facts_of(detector: Detector) -> dict[str, Any]:
    """What the page says of a model."""
    card = detector.model.card
    return {
        "file": str(detector.model.path),
        "sha256": detector.model.sha256,
        "architecture": card.architecture,
        "threshold": card.threshold,
        "band": list(card.band),
        "calibration": (card.calibration or {}).get("method"),
        "history": history(detector.model.path),
    }


def _extracted(faces: FacesConfig, data: Path, out: Path, config: Config, options: Options) -> Path:
    """The faces of a source, cut as a model wants them, without loss; models that want the same share them."""
    digest = hashlib.sha256(json.dumps(to_mapping(faces), sort_keys=True).encode()).hexdigest()[:8]
    folder = out / f"faces-{digest}"
    settings = config.with_preprocess(faces=faces, crop_format="png")
    kinds = media_kinds(data, config.preprocess.limits)
    videos, images = ([data] if kind in kinds else [] for kind in ("videos", "images"))
    summary = extract(
        videos, images, folder, settings, engine=options.engine, workers=options.workers, limit=options.limit
    )
    log.info("%s: %s", folder, ", ".join(f"{state} {count}" for state, count in summary.states.items()))
    return folder


def named(detectors: Sequence[Detector]) -> dict[str, Detector]:
    """Gives every model a name of its own: that of its run, with a piece of its hash where two are called the same.

    Raises:
        UsageError: The same file twice, or no model at all.
    """
    names = [detector.model.card.name for detector in detectors]
    if len({detector.model.sha256 for detector in detectors}) < len(detectors):
        raise UsageError("the same model file is named twice")
    if not names:
        raise UsageError("name at least one model file, or scores with --scores")
    return {
        name if names.count(name) == 1 else f"{name} {detector.model.sha256[:6]}": detector
        for name, detector in zip(names, detectors, strict=True)
    }


# ---- what is written -------------------------------------------------------------------------------------------------


def _publish(scores: Scores, out: Path, resamples: int, seed: int) -> Evaluated:
    """Figures, pictures, tables, the page last."""
    results = results_of(scores, resamples, seed)
    faces = {name: _mistaken(model) for name, model in results["models"].items()}
    pictures = {**pictures_of(results), **_sheets(faces)}
    with disk_errors(out):
        for old in out.glob("*.png"):
            if OWN_PICTURE.fullmatch(old.name):  # of an earlier run; a folder may hold others' pictures too
                old.unlink()
    for name, data in pictures.items():
        with atomic_file(out / name) as temporary:
            temporary.write_bytes(data)
    write_tables(out, results)
    shown = {
        name: {kind: {i: jpeg_uri(p) for i, p in found.items()} for kind, found in kinds.items()}
        for name, kinds in faces.items()
    }
    texts = {METRICS: json.dumps(results, indent=2, allow_nan=False) + "\n"}
    words = {"titles": TITLES, "shown": SHOWN, "part_shown": PART_SHOWN}
    limits = {"few_groups": FEW_GROUPS, "fewest_groups": FEWEST_GROUPS}
    texts[PAGE] = render("evaluation.html", pictures, r=results, faces=shown, **words, **limits)
    for name, text in texts.items():
        with atomic_file(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return Evaluated(out, out / PAGE, results)


def _mistaken(model: Mapping[str, Any]) -> dict[str, dict[int, Image]]:
    """Small pictures of the worst mistakes by kind and place in the list, where the crops are still there."""
    if "crops" not in model:
        return {kind: {} for kind in model["mistakes"]}
    found: dict[str, dict[int, Image]] = {}
    for kind, listed in model["mistakes"].items():
        pictures = {i: read_crop(Path(model["crops"], m["crop"])) for i, m in enumerate(listed) if m["crop"]}
        found[kind] = {i: resize(p, THUMB) for i, p in pictures.items() if not isinstance(p, Fault)}
    return found


def _sheets(faces: Mapping[str, Mapping[str, Mapping[int, Image]]]) -> dict[str, bytes]:
    return {
        f"{kind}_{number}.png": sheet(small)
        for number, kinds in enumerate(faces.values(), 1)
        for kind, small in kinds.items()
        if small
    }
