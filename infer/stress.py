"""The room's fourth verb: how a model holds out when the same clips are compressed, scaled, blurred or darkened."""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dfpipe import __version__
from dfpipe.config import Config, FacesConfig, LimitsConfig
from dfpipe.errors import DataError, MediaError, UsageError, choose
from dfpipe.files import atomic_file, locked, sweep
from dfpipe.infer.degradations import DEGRADATIONS, degrade_clip, write_picture
from dfpipe.infer.detector import Detector
from dfpipe.infer.evaluate import Options, faces_and_split
from dfpipe.infer.levels import coverage, levels_of
from dfpipe.infer.page import check_libraries, render
from dfpipe.infer.pictures import stress_chart
from dfpipe.infer.record import STRESS, record, stress_record
from dfpipe.infer.results import FEW_GROUPS, measured
from dfpipe.infer.scores import SCHEMA, Scores, check, joined, read_scores, write_scores
from dfpipe.infer.summary import stress_markdown, write_csv
from dfpipe.preprocess.facefinder import FaceFinder, start_finder, this_finder
from dfpipe.preprocess.looks import Fault, read_crop, spread_over
from dfpipe.preprocess.manifest import Manifest
from dfpipe.preprocess.mirror import source_of
from dfpipe.preprocess.readers import open_image, open_video
from dfpipe.preprocess.sampling import pick
from dfpipe.progress import Progress
from dfpipe.types import FaceBox, FaceCrop, State
from dfpipe.workers import run_all

log = logging.getLogger(__name__)

NONE = "none"  # the condition without any change
PAGE, FIGURES, SCORES, TABLE, TEXT = "stress.html", "stress.json", "stress.parquet", "stress.csv", "stress.md"
TOGETHER = 32  # inputs scored at once: a still has one face, and networks like batches
PATIENCE = 5.0  # times the wall limit of one input: decoding all frames and encoding them costs more than sampling some


@dataclass(frozen=True)
class Job:
    """One input under one condition, on its way to a worker."""

    row: int  # of the inputs
    path: Path
    kind: str  # video, image, or crops: faces that were cut before, changed as they are
    crops: tuple[tuple[Path, int, float, int], ...]  # file, frame, time, track
    change: str  # a key of DEGRADATIONS, or NONE
    strength: float


@dataclass(frozen=True)
class Stressed:
    """The figures, and where they lie."""

    out: Path
    page: Path
    results: dict[str, Any]  # what stress.json holds


def stress(
    detector: Detector, data: Path, out: Path, config: Config, options: Options, kinds: Sequence[str] = ()
) -> Stressed:
    """Scores the same inputs under every degradation and strength.

    Clips are opened again where they lay when they were extracted; stills that were face crops already are changed as
    they are, and are not encoded as clips.

    Args:
        detector: The model.
        data: A folder of extracted faces, or clips and stills in any known layout.
        out: Gets stress.html, the charts, stress.json, stress.csv, stress.md and stress.parquet with every score.
        config: Of it, `seed` and `preprocess.limits` matter.
        options: Of these, split, limit (inputs), resamples, any_crops, leaks, engine and workers matter.
        kinds: Keys of `DEGRADATIONS`; none = all.

    Raises:
        ConfigError: No such degradation.
        SourceError, DataError, LeakError: As for `evaluate`.
    """
    check_libraries("stress")
    chosen = {name: choose(DEGRADATIONS, name, "degradation") for name in kinds or DEGRADATIONS}
    name = detector.model.card.name
    with locked(out):
        sweep(out)
        manifest, inputs, split, facts = faces_and_split(name, detector, data, out, config, options)
        wanted = _inputs(manifest, inputs, split, options.limit)
        conditions = [(NONE, 0.0), *((kind, s) for kind, told in chosen.items() for s in told.strengths)]
        jobs = [job for condition in conditions for job in _jobs(manifest, wanted, *condition)]
        tables = _score(detector, jobs, wanted, config, options)
        about = {
            "data": source_of(data),
            "split": split,
            "aggregate": detector.config.aggregate,
            "min_frames": detector.config.min_frames,
            "models": {_title(*c): {"threshold": facts["threshold"], "band": facts["band"]} for c in conditions},
        }
        scores = joined([tables[c] for c in conditions if c in tables], about)
        check(scores, str(data))
        write_scores(out / SCORES, scores)
        results = figures_of(scores, name, facts, [c for c in conditions if c in tables], options, config.seed)
        _publish(out, results)
    return Stressed(out, out / PAGE, results)


def record_all(done: Stressed, model: Path) -> None:
    """Writes the figures into the model file."""
    record(model, STRESS, stress_record(done.results, read_scores(done.out / SCORES)))


# ---- what is to be done ----------------------------------------------------------------------------------------------


def _inputs(manifest: Manifest, inputs: Sequence[dict[str, Any]], split: str, limit: int) -> list[dict[str, Any]]:
    """Labelled inputs of the split in which a face was found, spread evenly and over both labels."""
    found = [
        row
        for row in inputs
        if split in ("all", row["split"]) and row["state"] in (State.OK, State.PARTIAL) and row["label"] is not None
    ]
    if not found:
        raise DataError(f"no labelled inputs with a face in split {split!r} of {manifest.folder}")
    share = -(-limit // 2) if limit else 0
    by_label = [[row for row in found if row["label"] == label] for label in (0, 1)]
    return [row for rows in by_label for row in spread_over(rows, share)]


def _jobs(manifest: Manifest, wanted: Sequence[dict[str, Any]], change: str, strength: float) -> Iterator[Job]:
    columns = manifest.columns
    rows_of: dict[str, list[int]] = {}
    for row, media_id in enumerate(columns["media_id"]):
        rows_of.setdefault(media_id, []).append(row)
    for number, item in enumerate(wanted):
        crops = rows_of.get(item["media_id"], [])
        whole = Path(item["path"]).is_file() and not any(columns["as_is"][r] for r in crops)
        kind = item["kind"] if whole else "crops"
        clip_only = change != NONE and DEGRADATIONS[change].picture is None
        if clip_only and kind != "video":
            continue
        faces = tuple(
            (manifest.path(r), columns["frame_index"][r], columns["time_s"][r], columns["track"][r]) for r in crops
        )
        yield Job(number, Path(item["path"]), kind, () if whole else faces, change, strength)


# ---- in the worker ---------------------------------------------------------------------------------------------------

_all_frames: FaceFinder | None = None


def start(faces: FacesConfig, limits: LimitsConfig) -> None:
    """Loads this process's finders: one that samples clips, and one that takes all pictures of a folder."""
    global _all_frames
    start_finder(faces, limits)
    _all_frames = FaceFinder(replace(faces, sampling="every", every=1, max_frames=100_000), limits)


def stress_task(job: Job) -> tuple[FaceCrop, ...]:
    """Changes one input and finds its faces.

    Raises:
        MediaError: It cannot be read.
    """
    if job.crops:
        return tuple(_changed_crops(job))
    finder = this_finder()
    if job.change == NONE:
        return finder.find(job.path).crops
    with tempfile.TemporaryDirectory(prefix="dfpipe-") as name:
        folder = Path(name)
        if DEGRADATIONS[job.change].picture is None:
            return finder.find(degrade_clip(job.path, job.change, job.strength, folder, finder.limits)).crops
        if job.kind == "image":
            image = open_image(job.path, finder.limits)
            return finder.find(write_picture(folder / "a.png", image, job.change, job.strength)).crops
        return _changed_frames(job, finder, folder)


def _changed_crops(job: Job) -> Iterator[FaceCrop]:
    for path, frame, time_s, track in job.crops:
        picture = read_crop(path)
        if isinstance(picture, Fault):
            raise DataError(f"crop {path} is {picture}: run the same 'dfpipe extract' again")
        change = DEGRADATIONS[job.change].picture if job.change != NONE else None
        changed = change(picture, job.strength) if change is not None else picture
        yield FaceCrop(frame, time_s, track, FaceBox(0, 0, 1, 1, 1.0), changed)


def _changed_frames(job: Job, finder: FaceFinder, folder: Path) -> tuple[FaceCrop, ...]:
    """The frames that are looked at anyway, changed, as a clip of pictures."""
    with open_video(job.path, finder.config.reader, finder.limits) as video:
        names = []
        for frame in video.frames(pick(video.timeline, finder.config)):
            names.append(f"{frame.index:08d}.png")
            write_picture(folder / names[-1], frame.image, job.change, job.strength)
    return _all_frames.find(folder, members=names).crops if _all_frames is not None else ()


# ---- scores and figures ----------------------------------------------------------------------------------------------


def _score(
    detector: Detector, jobs: Sequence[Job], wanted: Sequence[dict[str, Any]], config: Config, options: Options
) -> dict[tuple[str, float], Scores]:
    limits = config.preprocess.limits.patient(PATIENCE)
    setup = partial(start, detector.model.card.faces, limits)
    found: dict[tuple[str, float], list[dict[str, Any]]] = {}
    waiting: list[tuple[Job, Any]] = []
    results = run_all(stress_task, jobs, setup=setup, engine=options.engine, workers=options.workers, bounds=limits)
    with Progress("stress", len(jobs)) as progress:
        for job, result in results:
            waiting.append((job, result))
            if len(waiting) == TOGETHER:
                _add(detector, waiting, wanted, found)
                waiting = []
            progress.step({"conditions": len(found)})
    _add(detector, waiting, wanted, found)
    return {
        condition: Scores({name: [row.get(name) for row in _sorted(rows)] for name in SCHEMA.names})
        for condition, rows in found.items()
    }


def _add(
    detector: Detector,
    results: Sequence[tuple[Job, Any]],
    wanted: Sequence[dict[str, Any]],
    found: dict[tuple[str, float], list[dict[str, Any]]],
) -> None:
    """Scores the faces of some inputs in common batches, and files their rows under their conditions."""
    faces = [crop for _, result in results if not isinstance(result, MediaError) for crop in result]
    p_fake: dict[int, float] = {}
    for shape in {crop.image.shape for crop in faces}:
        same = [crop for crop in faces if crop.image.shape == shape]
        p_fake |= {id(crop): score.p_fake for crop, score in zip(same, detector.score(same), strict=True)}
    for job, result in results:
        rows = _rows(job, wanted[job.row], result, p_fake)
        found.setdefault((job.change, job.strength), []).extend(rows)


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In an order that does not depend on which worker was faster."""
    return sorted(rows, key=lambda row: (row["media_id"], row.get("track") or 0, row.get("frame_index") or 0))


def _rows(job: Job, row: Mapping[str, Any], result: Any, p_fake: Mapping[int, float]) -> Iterator[dict[str, Any]]:
    facts = {name: row[name] for name in ("media_id", "dataset", "name", "label", "method", "group", "split", "kind")}
    facts |= {"model": _title(job.change, job.strength), "compression": "", "frames_wanted": row["frames_wanted"] or 1}
    if isinstance(result, MediaError) or not result:
        state = result.state if isinstance(result, MediaError) else State.NO_FACE
        yield {**facts, "state": str(state)}
        return
    for crop in result:
        face = {"frame_index": crop.frame_index, "time_s": crop.time_s, "track": crop.track}
        side = None if job.crops else crop.box.side
        yield {**facts, **face, "state": "ok", "face_side": side, "p_fake": p_fake[id(crop)]}


def _title(change: str, strength: float) -> str:
    return NONE if change == NONE else f"{change} {strength:g}"


def figures_of(
    scores: Scores,
    name: str,
    facts: Mapping[str, Any],
    conditions: Sequence[tuple[str, float]],
    options: Options,
    seed: int,
) -> dict[str, Any]:
    """All figures as plain values: what stress.json holds, and what page and charts are made of."""
    rows = []
    for change, strength in conditions:
        table = scores.of(_title(change, strength))
        band = (facts["band"][0], facts["band"][1])
        clips = levels_of(table, scores.about["aggregate"], band, scores.about["min_frames"])["clip"]
        found = measured(clips, facts["threshold"], options.resamples, seed)
        kept = ("auc", "fpr", "recall", "balanced_accuracy", "log_loss")
        rows.append(
            {
                "change": change,
                "title": "As they are" if change == NONE else DEGRADATIONS[change].title,
                "unit": "" if change == NONE else DEGRADATIONS[change].unit,
                "strength": None if change == NONE else strength,
                "inputs": coverage(table)["inputs"],
                "share": coverage(table)["share"],
                **{key: found[key] for key in ("count", "real", "fake", "groups")},
                "metrics": {metric: found["metrics"][metric] for metric in kept},
                "intervals": {metric: found["intervals"][metric] for metric in kept},
            }
        )
    return {
        "dfpipe": __version__,
        "model": name,
        **{key: facts[key] for key in ("file", "sha256", "threshold", "leaks")},
        "data": scores.about["data"],
        "split": scores.about["split"],
        "bootstrap": {"resamples": options.resamples, "seed": seed, "drawn": "groups (source clips)"},
        "conditions": rows,
    }


def _publish(out: Path, results: Mapping[str, Any]) -> None:
    kinds = dict.fromkeys(row["change"] for row in results["conditions"] if row["change"] != NONE)
    pictures = {f"stress_{kind}.png": stress_chart(results["conditions"], kind) for kind in kinds}
    for name, data in pictures.items():
        with atomic_file(out / name) as temporary:
            temporary.write_bytes(data)
    write_csv(out / TABLE, [_flat(row) for row in results["conditions"]])
    texts = {
        FIGURES: json.dumps(results, indent=2, allow_nan=False) + "\n",
        TEXT: stress_markdown(results["conditions"]),
        PAGE: render("stress.html", pictures, r=results, kinds=list(kinds), few_groups=FEW_GROUPS),
    }
    for name, text in texts.items():
        with atomic_file(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: row[key] for key in ("change", "strength", "inputs", "share", "count", "real", "fake", "groups")}
    for metric, value in row["metrics"].items():
        low, high = row["intervals"][metric] or (None, None)
        flat |= {metric: value, f"{metric}_low": low, f"{metric}_high": high}
    return flat


def parse_kinds(text: str) -> list[str]:
    """Reads a list like crf,blur; empty = all.

    Raises:
        UsageError: An empty name in it.
    """
    names = [name.strip() for name in text.split(",")] if text else []
    if "" in names:
        raise UsageError(f"--only takes names with commas between them, not {text!r}: {', '.join(DEGRADATIONS)}")
    return names
