"""The room's verb: collections of clips and stills to face crops and a manifest."""

import contextlib
import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dfpipe.child import allow
from dfpipe.config import Config, LimitsConfig
from dfpipe.errors import MediaError, TooLargeMedia
from dfpipe.fetching import run_fetched
from dfpipe.files import TEMPORARY, disk_errors, locked, replace_durably, scratch_folder, sha256_file, sweep
from dfpipe.ledger import LEDGER, Ledger
from dfpipe.names import as_text
from dfpipe.outbox import Outbox, stored_ledger
from dfpipe.preprocess.archives import read_member
from dfpipe.preprocess.crops import encode_jpeg, encode_png
from dfpipe.preprocess.facefinder import FoundFaces, this_finder
from dfpipe.preprocess.jobs import Job, finder_setup, jobs_of, note_inputs, scan_all, unfinished
from dfpipe.preprocess.publish import TABLES, Summary, publish
from dfpipe.preprocess.stills import check_size
from dfpipe.progress import Progress
from dfpipe.store import Url, get
from dfpipe.types import MediaItem
from dfpipe.workers import Engine

SUFFIXES = {"jpeg": ".jpg", "png": ".png"}


@dataclass(frozen=True)
class Extracted:
    """What a worker sends back: a row for the input, and per crop a row and its JPEG."""

    row: dict[str, Any]
    crops: list[tuple[dict[str, Any], bytes]]


def extract(
    videos: Sequence[Path | Url],
    images: Sequence[Path | Url],
    out: Path | Url,
    config: Config,
    *,
    engine: Engine = "local",
    workers: int = 0,
    limit: int = 0,
    shard: tuple[int, int] = (1, 1),
    redo: Sequence[str] = (),
) -> Summary:
    """Finds and cuts the faces of all inputs, and writes crops, manifest and one state per input to `out`.

    Inputs that an earlier run finished with the same settings are not opened again. The manifest covers everything in
    the folder, so that collections can be added one after the other.

    Args:
        videos: Folders of clips, here or in a store.
        images: Folders of stills, here or in a store.
        out: Output folder. One in a store gets the crops as they are made, and a copy of the ledger every minute.
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
    running: dict[str, Any] = {"engine": engine, "workers": workers, "bounds": config.preprocess.limits}
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder())
        sources = scan_all(videos, images, config.preprocess.limits, scratch)
        folder = scratch / "out" if isinstance(out, Url) else out
        stack.enter_context(locked(folder))
        sweep(folder)
        ledger = stored_ledger(out, folder) if isinstance(out, Url) else Ledger(folder / LEDGER)
        stack.callback(ledger.close)
        ledger.check_kind("crop_rows", out)
        outbox = stack.enter_context(Outbox(out, folder, ledger, TABLES)) if isinstance(out, Url) else None
        jobs = [job for source in sources for job in jobs_of(source, config, limit, shard, ledger, **running)]
        if shard != (1, 1):
            note_inputs(sources, limit, ledger)
        todo = unfinished(jobs, ledger, redo)
        results = run_fetched(extract_task, todo, setup=finder_setup(config), **running)
        _collect(results, ledger, folder, len(jobs), len(jobs) - len(todo), outbox)
        missing = tuple(name for source in sources for name in source.missing)
        notes = [note for source in sources for note in source.notes]
        summary = publish(ledger, missing, notes, [job.key for job in jobs], len(jobs) - len(todo), folder, config)
        if outbox is not None:
            outbox.publish()
        return replace(summary, out=out)


def dry_run(
    videos: Sequence[Path | Url],
    images: Sequence[Path | Url],
    out: Path | Url,
    config: Config,
    *,
    engine: Engine = "local",
    workers: int = 0,
    limit: int = 0,
    shard: tuple[int, int] = (1, 1),
    redo: Sequence[str] = (),
) -> tuple[int, int]:
    """What `extract` with the same arguments would do; nothing is written, but to a ledger that is there what stills are.

    Returns:
        How many inputs there are, and how many of them would be worked on.

    Raises:
        SourceError: As `extract`.
    """
    running: dict[str, Any] = {"engine": engine, "workers": workers, "bounds": config.preprocess.limits}
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder())
        sources = scan_all(videos, images, config.preprocess.limits, scratch)
        known = scratch / LEDGER if isinstance(out, Url) else out / LEDGER
        if isinstance(out, Url):
            get(out / LEDGER, known)
        ledger = Ledger(known) if known.is_file() else None
        if ledger is not None:
            stack.callback(ledger.close)
        jobs = [job for source in sources for job in jobs_of(source, config, limit, shard, ledger, **running)]
        return len(jobs), len(jobs) if ledger is None else len(unfinished(jobs, ledger, redo))


# ---- in the worker -------------------------------------------------------------------------------------------------


def extract_task(job: Job) -> Extracted:
    """Finds, cuts and encodes the faces of one input.

    Raises:
        MediaError: The input's state and reason.
    """
    start = time.perf_counter()
    item = job.item
    limits = this_finder().limits
    if not item.members and item.path.is_file():
        size = item.path.stat().st_size
        check_size(size, limits)
        allow(limits.allowance(size))  # hashing reads all of it
    sha256 = _content_hash(item, limits)
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
    row = {"media_id": media_id, "sha256": sha256, **_facts(found), "seconds": seconds}
    clip = found.kind == "video" and not item.members
    row["bits_per_pixel"] = found.info.bits_per_pixel(item.path.stat().st_size) if clip else None
    return Extracted(row, crops)


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


# ---- after: crops to disk, rows to the ledger ------------------------------------------------------------------------


def _collect(
    results: Iterator[tuple[Job, Any]], ledger: Ledger, out: Path, total: int, resumed: int, outbox: Outbox | None
) -> None:
    counts: Counter[str] = Counter()
    with Progress("extract", total, resumed) as progress:
        for job, result in results:
            if isinstance(result, MediaError):
                result = _failure(job, result)
            crops = _save_crops(out, result)
            row = {**_item_row(job.item), **result.row, "crop_rows": [row for row, _ in result.crops]}
            ledger.record(job.key, job.fingerprint, row)
            if outbox is not None:
                outbox.send(crops)
            counts["faces"] += len(result.crops)
            counts[row["state"]] += 1
            progress.step(counts)


def _failure(job: Job, error: MediaError) -> Extracted:
    """The row of an input that failed, with the hash of its file, unless that may be too long to be read for this alone."""
    named = job.item.path.is_file() and not job.item.members and not isinstance(error, TooLargeMedia)
    try:
        sha256 = sha256_file(job.item.path) if named else ""
    except MediaError:
        sha256 = ""
    row = {"media_id": media_id_of(sha256, job.item), "sha256": sha256, "state": str(error.state), "reason": str(error)}
    return Extracted({**row, "crops": 0}, [])


def _save_crops(out: Path, result: Extracted) -> Path:
    """Puts the crops of one input in place in one step: its folder, which is returned, is there whole or not at all."""
    media_id = str(result.row["media_id"])
    final = out / "crops" / media_id[:2] / media_id
    with disk_errors(out):
        if final.exists():
            shutil.rmtree(final)
        if not result.crops:
            return final
        temporary = out / f"{TEMPORARY}{os.getpid()}-{media_id}"
        temporary.mkdir()
        try:
            for row, data in result.crops:
                (temporary / Path(row["crop"]).name).write_bytes(data)
            final.parent.mkdir(parents=True, exist_ok=True)
            replace_durably(temporary, final)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return final


def _item_row(item: MediaItem) -> dict[str, Any]:
    inside = item.members[0] if len(item.members) == 1 else ""
    return {
        "dataset": as_text(item.dataset),
        "name": as_text(item.name),
        "label": None if item.label is None else int(item.label),
        "method": as_text(item.method),
        "group": as_text(item.group),
        "split": item.split,
        "path": as_text(item.origin.url if item.origin is not None else str(item.path / inside)),
    }
