"""The room's verb: collections of clips and stills to face crops and a manifest."""

import hashlib
import json
import logging
import os
import shutil
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfpipe.config import Config, LimitsConfig, to_mapping, to_yaml
from dfpipe.errors import ConfigError, MediaError, SourceError
from dfpipe.files import TEMPORARY, atomic_file, disk_errors, locked, sha256_file, sweep
from dfpipe.ledger import Ledger
from dfpipe.preprocess.archives import read_member
from dfpipe.preprocess.crops import encode_jpeg, encode_png
from dfpipe.preprocess.facefinder import FoundFaces, crop_scale_task, setup_of, this_finder, typical_crop_scale
from dfpipe.preprocess.groups import together
from dfpipe.preprocess.manifest import CONFIG, CROPS_SCHEMA, INPUTS, INPUTS_SCHEMA, MANIFEST, write_table
from dfpipe.preprocess.sources import Source, scan
from dfpipe.preprocess.splits import assign, assign_folds, check_leaks
from dfpipe.progress import Progress
from dfpipe.types import MediaItem, State
from dfpipe.workers import Bounds, run_all

log = logging.getLogger(__name__)

LEDGER = "ledger.sqlite"
SUFFIXES = {"jpeg": ".jpg", "png": ".png"}
STILLS_SAMPLE = 48  # stills looked at to decide whether a set consists of face crops


@dataclass(frozen=True)
class Job:
    """One input on its way to a worker."""

    item: MediaItem
    key: str
    fingerprint: str
    crop_scale: float | None  # of a still that is a face crop already; None = look for faces
    crop_format: str
    jpeg_quality: int


@dataclass(frozen=True)
class Extracted:
    """What a worker sends back: a row for the input, and per crop a row and its JPEG."""

    row: dict[str, Any]
    crops: list[tuple[dict[str, Any], bytes]]


@dataclass(frozen=True)
class Summary:
    """How an extraction ended. The states of `states` add up to `inputs`."""

    out: Path
    inputs: int
    resumed: int  # of these, finished by an earlier run
    states: dict[str, int]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    crops: int  # in the whole folder, as is the next
    splits: dict[str, dict[str, int]]  # split -> label -> crops
    reasons: dict[str, str]  # input -> why it failed

    @property
    def failed(self) -> int:
        """Inputs that nothing could be had from."""
        return sum(count for state, count in self.states.items() if State(state).failed)


def extract(
    videos: Sequence[Path],
    images: Sequence[Path],
    out: Path,
    config: Config,
    *,
    engine: str = "local",
    workers: int = 0,
    limit: int = 0,
    shard: tuple[int, int] = (1, 1),
    redo: Sequence[str] = (),
) -> Summary:
    """Finds and cuts the faces of all inputs, and writes crops, manifest and one state per input to `out`.

    Inputs that an earlier run finished with the same settings are not opened again. The manifest covers everything in
    the folder, so that collections can be added one after the other.

    Args:
        videos: Folders of clips.
        images: Folders of stills.
        out: Output folder.
        config: Settings; `preprocess` and `seed` matter here.
        engine: See `dfpipe.workers`.
        workers: Processes, 0 = one per core.
        limit: At most so many inputs of each collection, spread over it; 0 = all.
        shard: (I, N): only part I of N, by a hash of each input's name; every part wants an `out` of its own.
        redo: States whose inputs are worked on again although they are finished.

    Raises:
        SourceError: A folder with nothing usable.
        LeakError: The publisher's splits share a source.
        ResourceError: Disk full; finished inputs stay valid.
        UsageError: Another run is writing to `out`.
    """
    bounds = Bounds(config.preprocess.limits.seconds, config.preprocess.limits.memory_gb)
    running: dict[str, Any] = {"engine": engine, "workers": workers, "bounds": bounds}
    sources = scan_all(videos, images)
    with locked(out):
        sweep(out)
        jobs = [job for source in sources for job in _jobs(source, config, limit, shard, **running)]
        ledger = Ledger(out / LEDGER)
        try:
            todo = _todo(jobs, ledger, redo)
            results = run_all(extract_task, todo, setup=_setup(config), **running)
            _collect(results, ledger, out, len(jobs), len(jobs) - len(todo))
            return _publish(ledger, sources, jobs, len(jobs) - len(todo), out, config)
        finally:
            ledger.close()


def dry_run(
    videos: Sequence[Path],
    images: Sequence[Path],
    out: Path,
    config: Config,
    *,
    engine: str = "local",
    workers: int = 0,
    limit: int = 0,
    shard: tuple[int, int] = (1, 1),
    redo: Sequence[str] = (),
) -> tuple[int, int]:
    """What `extract` with the same arguments would do; nothing is written.

    Returns:
        How many inputs there are, and how many of them would be worked on.

    Raises:
        SourceError: As `extract`.
    """
    bounds = Bounds(config.preprocess.limits.seconds, config.preprocess.limits.memory_gb)
    jobs = [
        job
        for source in scan_all(videos, images)
        for job in _jobs(source, config, limit, shard, engine=engine, workers=workers, bounds=bounds)
    ]
    if not (out / LEDGER).is_file():
        return len(jobs), len(jobs)
    ledger = Ledger(out / LEDGER)
    try:
        return len(jobs), len(_todo(jobs, ledger, redo))
    finally:
        ledger.close()


def scan_all(videos: Sequence[Path], images: Sequence[Path]) -> list[Source]:
    """Recognises everything in the named folders.

    Raises:
        SourceError: No folder is named, or one holds nothing usable.
    """
    named = [("videos", root) for root in videos] + [("images", root) for root in images]
    if not named:
        raise SourceError("nothing to extract: name at least one folder with --videos or --images")
    sources = [source for kind, root in named for source in scan(root, kind)]
    seen: dict[str, Path] = {}
    for source in sources:
        for item in source.items:
            first = seen.setdefault(key_of(item), source.root)
            if first is not source.root:
                raise SourceError(
                    f"{first} and {source.root} both hold {key_of(item)}: name a folder once, rename one of two datasets "
                    "of equal name, or extract them to different --out"
                )
    return sources


def _todo(jobs: Sequence[Job], ledger: Ledger, redo: Sequence[str]) -> list[Job]:
    """The jobs that no earlier run finished with the same file and settings, and those whose state is to be redone."""
    for state in redo:
        if state not in set(State):
            raise ConfigError(f"unknown state {state!r} for --redo; there are: {', '.join(State)}")
    again = {key for key, row in ledger.rows() if row["state"] in redo} if redo else set()
    finished = ledger.fingerprints()
    return [job for job in jobs if finished.get(job.key) != job.fingerprint or job.key in again]


def _setup(config: Config) -> Any:
    return setup_of(config.preprocess.faces, config.preprocess.limits)


# ---- before: what is to do -----------------------------------------------------------------------------------------


def _jobs(source: Source, config: Config, limit: int, shard: tuple[int, int], **running: Any) -> Iterator[Job]:
    stills = source.kind == "images" or any(item.members for item in source.items[:1])
    crop_scale = _stills_scale(source.items, config, **running) if stills else None
    part, parts = shard
    items = _spread(source.items, limit)
    items = tuple(
        item for item in items if zlib.crc32(key_of(item).encode(errors="surrogateescape")) % parts == part - 1
    )
    settings = {
        "faces": to_mapping(config.preprocess.faces),
        "crop_format": config.preprocess.crop_format,
        "jpeg_quality": config.preprocess.jpeg_quality,
        "crop_scale": crop_scale,
    }
    for item in items:
        fingerprint = _fingerprint(item, settings)
        cfg = config.preprocess
        yield Job(item, key_of(item), fingerprint, crop_scale, cfg.crop_format, cfg.jpeg_quality)


def key_of(item: MediaItem) -> str:
    """What an input is called in the ledger."""
    return f"{item.dataset}/{item.name}"


def _spread(items: tuple[MediaItem, ...], limit: int) -> tuple[MediaItem, ...]:
    """At most `limit` items, evenly spread, so that a small run still sees every part and label."""
    if not limit or len(items) <= limit:
        return items
    return tuple(items[i * len(items) // limit] for i in range(limit))


def _stills_scale(items: Sequence[MediaItem], config: Config, **running: Any) -> float | None:
    """The framing of stills that are face crops already, or None if faces must be looked for."""
    if config.preprocess.stills == "detect" or not items:
        return None
    sample = [(item.path, item.members) for item in _spread(tuple(items), STILLS_SAMPLE)]
    scales = [
        None if isinstance(scale, MediaError) else scale
        for _, scale in run_all(crop_scale_task, sample, setup=_setup(config), **running)
    ]
    scale = typical_crop_scale(scales)
    if scale is None and config.preprocess.stills == "as-is":
        scale = config.preprocess.faces.crop_scale  # told that they are crops, but cannot measure: take the usual
    found = f"are face crops of scale {scale:.2f}: taken whole" if scale else "are whole pictures: faces are looked for"
    log.info("%s: the stills %s", items[0].dataset, found)
    return scale


def _fingerprint(item: MediaItem, settings: dict[str, Any]) -> str:
    """Changes whenever the file or anything that shapes its crops or row does."""
    try:
        stat = item.path.stat()
        file = [stat.st_size, stat.st_mtime_ns]
    except OSError:
        file = []
    facts = [file, settings, item.label, item.method, item.group, item.split, item.members]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


# ---- in the worker -------------------------------------------------------------------------------------------------


def extract_task(job: Job) -> Extracted:
    """Finds, cuts and encodes the faces of one input.

    Raises:
        MediaError: The input's state and reason.
    """
    start = time.perf_counter()
    item = job.item
    sha256 = _content_hash(item, this_finder().limits)
    found = this_finder().find(item.path, as_is=job.crop_scale is not None, members=item.members)
    media_id = media_id_of(sha256, item)
    scale = job.crop_scale if job.crop_scale is not None else this_finder().config.crop_scale
    crops = []
    for face in found.crops:
        box = face.box
        row = {
            "crop": f"crops/{media_id[:2]}/{media_id}/{face.frame_index:06d}_{face.track}{SUFFIXES[job.crop_format]}",
            "frame_index": face.frame_index,
            "time_s": face.time_s,
            "track": face.track,
            "x1": box.x1,
            "y1": box.y1,
            "x2": box.x2,
            "y2": box.y2,
            "confidence": box.confidence,
            "landmarks": [value for point in box.landmarks for value in point],
            "crop_scale": scale,
            "as_is": job.crop_scale is not None,
        }
        data = encode_png(face.image) if job.crop_format == "png" else encode_jpeg(face.image, job.jpeg_quality)
        crops.append((row, data))
    seconds = round(time.perf_counter() - start, 3)
    return Extracted({"media_id": media_id, "sha256": sha256, **_facts(found), "seconds": seconds}, crops)


def _content_hash(item: MediaItem, limits: LimitsConfig) -> str:
    """What the input consists of: a file, an entry of an archive, or the frames in a folder."""
    if not item.members:
        return sha256_file(item.path)
    if not item.path.is_dir():
        return hashlib.sha256(read_member(item.path, item.members[0], limits)).hexdigest()
    frames = (item.path / member for member in item.members)
    return hashlib.sha256("".join(sha256_file(frame) for frame in frames if frame.is_file()).encode()).hexdigest()


def media_id_of(sha256: str, item: MediaItem) -> str:
    """Names an input by its content and its place in the dataset: datasets reuse bare file names."""
    place = f"{sha256}:{item.dataset}/{item.name}"
    return hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:16]


def _facts(found: FoundFaces) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "state": str(found.state),
        "reason": found.reason,
        "frames_wanted": found.frames_wanted,
        "frames_decoded": found.frames_decoded,
        "frames_with_face": found.frames_with_face,
        "crops": len(found.crops),
        "tracks_dropped": found.tracks_dropped,
        "width": found.info.width,
        "height": found.info.height,
        "fps": found.info.fps,
        "duration_s": found.info.duration_s,
        "codec": found.info.codec,
        "reader": found.info.reader,
    }


# ---- after: crops to disk, rows to the ledger, tables at the end ------------------------------------------------------


def _collect(results: Iterator[tuple[Job, Any]], ledger: Ledger, out: Path, total: int, resumed: int) -> None:
    counts: Counter[str] = Counter()
    with Progress("extract", total, resumed) as progress:
        for job, result in results:
            if isinstance(result, MediaError):
                result = _failure(job, result)
            _save_crops(out, result)
            row = {**_item_row(job.item), **result.row, "crop_rows": [row for row, _ in result.crops]}
            ledger.record(job.key, job.fingerprint, row)
            counts["faces"] += len(result.crops)
            counts[row["state"]] += 1
            progress.step(counts)


def _failure(job: Job, error: MediaError) -> Extracted:
    try:
        sha256 = sha256_file(job.item.path) if job.item.path.is_file() and not job.item.members else ""
    except MediaError:
        sha256 = ""
    row = {"media_id": media_id_of(sha256, job.item), "sha256": sha256, "state": str(error.state), "reason": str(error)}
    return Extracted({**row, "crops": 0}, [])


def _save_crops(out: Path, result: Extracted) -> None:
    """Puts the crops of one input in place in one step: its folder is there whole or not at all."""
    media_id = result.row["media_id"]
    final = out / "crops" / media_id[:2] / media_id
    with disk_errors(out):
        if final.exists():
            shutil.rmtree(final)
        if not result.crops:
            return
        temporary = out / f"{TEMPORARY}{os.getpid()}-{media_id}"
        temporary.mkdir()
        try:
            for row, data in result.crops:
                (temporary / Path(row["crop"]).name).write_bytes(data)
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(final)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def _item_row(item: MediaItem) -> dict[str, Any]:
    return {
        "dataset": item.dataset,
        "name": item.name,
        "label": None if item.label is None else int(item.label),
        "method": item.method,
        "group": item.group,
        "split": item.split,
        "path": "/".join([str(item.path), *item.members[:1]]) if len(item.members) == 1 else str(item.path),
    }


def _publish(
    ledger: Ledger, sources: Sequence[Source], jobs: Sequence[Job], resumed: int, out: Path, config: Config
) -> Summary:
    """Divides the inputs into splits, checks for leaks, and writes the tables from the ledger."""
    rows = dict(ledger.rows())
    _give_splits(list(rows.values()), config)
    crop_rows = [
        {**{name: row.get(name) for name in CROPS_SCHEMA.names}, **crop}
        for row in rows.values()
        for crop in row["crop_rows"]
    ]
    write_table(out / MANIFEST, CROPS_SCHEMA, crop_rows)
    write_table(out / INPUTS, INPUTS_SCHEMA, [{n: row.get(n) for n in INPUTS_SCHEMA.names} for row in rows.values()])
    missing = tuple(name for source in sources for name in source.missing)
    for path, text in ((out / CONFIG, to_yaml(config)), (out / "missing.txt", "".join(f"{m}\n" for m in missing))):
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    splits: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for crop in crop_rows:
        splits[crop["split"]][{0: "real", 1: "fake"}.get(crop["label"], "unlabelled")] += 1
    mine = [rows[job.key] for job in jobs]
    return Summary(
        out=out,
        inputs=len(jobs),
        resumed=resumed,
        states=dict(Counter(row["state"] for row in mine)),
        missing=missing,
        notes=(*(note for source in sources for note in source.notes), *_copies(list(rows.values()))),
        crops=len(crop_rows),
        splits={split: dict(labels) for split, labels in splits.items()},
        reasons={row["path"]: f"{row['state']}: {row['reason']}" for row in mine if State(row["state"]).failed},
    )


def _give_splits(rows: Sequence[dict[str, Any]], config: Config) -> None:
    """Keeps the publisher's splits and divides the other groups; fills in `split` and `fold` of every row.

    Groups that hold the same file go together: a copy under another name leaks as well as the original.
    """
    published = {_group_key(row): row["split"] for row in rows if row["split"] is not None}
    open_rows = [row for row in rows if _group_key(row) not in published]
    same = together([_group_key(row), f"content {row['sha256']}"] for row in rows if row["sha256"])
    given = assign(_labels_of(open_rows, same), config.preprocess.split, config.seed)
    folds = (
        assign_folds(_labels_of(rows, same), config.preprocess.folds, config.seed) if config.preprocess.folds else {}
    )
    for row in rows:
        key = _group_key(row)
        row["split"] = row["split"] or published.get(key) or given[same.get(key, key)]
        row["fold"] = folds.get(same.get(key, key))
    check_leaks([_group_key(row) for row in rows], [row["split"] for row in rows])


def _copies(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Says how many files a publisher put into two splits. They are kept: the splits are the publisher's."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["sha256"]:
            splits[row["sha256"]].add(row["split"])
    count = sum(len(found) > 1 for found in splits.values())
    told = f"{count} files lie byte for byte in two of the publisher's splits: figures measured on them are too good"
    return [told] if count else []


def _labels_of(rows: Sequence[dict[str, Any]], same: Mapping[str, str]) -> dict[str, list[int | None]]:
    """The labels that occur in each group, groups with the same content counting as one."""
    labels_of: dict[str, list[int | None]] = defaultdict(list)
    for row in rows:
        key = _group_key(row)
        labels_of[same.get(key, key)].append(row["label"])
    return labels_of


def _group_key(row: dict[str, Any]) -> str:
    return f"{row['dataset']}: {row['group']}"
