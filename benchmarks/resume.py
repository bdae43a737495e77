"""How long until work goes on: a manifest is open, a finished extraction or a finished judging is recognised?

    python benchmarks/resume.py [--rows 1000,10000,100000,1000000] [--inputs 1000,100000] [--crops 1,32]
        [--verdicts verdicts.jsonl] [--runs 3]

Makes its own tables: a manifest with so many rows, 32 of each clip; a ledger in which so many inputs are finished, each
with so many crops, beside a folder with as many small files. Prints median, least and most of some runs: opening a manifest
with its checks; what a training then does with it before its first step, but for the look at the crops on disk; and
`extract` started again where everything is finished, in core-seconds and on the wall. With `--verdicts`, a file that
`dfpipe infer` wrote, also `infer` started again on as many inputs with verdicts like its first one.
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dfpipe.config import Config, load_config, to_yaml
from dfpipe.infer.detector import Detector
from dfpipe.infer.inputs import Upload, collect
from dfpipe.infer.judging import Options, judge_into, settings_of
from dfpipe.infer.verdicts import Facts, VerdictFolder, folder_name
from dfpipe.ledger import LEDGER, Ledger
from dfpipe.preprocess.extract import extract
from dfpipe.preprocess.jobs import Job, jobs_of, scan_all
from dfpipe.preprocess.manifest import CONFIG, CROPS_SCHEMA, MANIFEST, VERSION, Manifest, read_manifest
from dfpipe.train import rows as training
from dfpipe.train.balance import kinds_of
from dfpipe.train.dataset import CropDataset
from dfpipe.train.loader import EpochSampler

PER_CLIP = 32


def timed(name: str, runs: int, what: Callable[[], Any]) -> Any:
    """Prints what something takes; returns what it gave last."""
    walls, cores, result = [], [], None
    for _ in range(runs):
        result = None  # two of them would need twice the memory
        wall, core = time.perf_counter(), time.process_time()
        result = what()
        walls.append(time.perf_counter() - wall)
        cores.append(time.process_time() - core)
    span = f"({min(cores):.2f} to {max(cores):.2f})"
    print(f"{name:<62} {statistics.median(cores):7.2f} core-s {span:<16} {statistics.median(walls):7.2f} s", flush=True)
    return result


# ---- manifest -------------------------------------------------------------------------------------------------------


def write_manifest(folder: Path, rows: int, config: Config) -> None:
    """A manifest like that of a large set of clips: five clips of a source, one of them real."""
    clip, frame = np.divmod(np.arange(rows), PER_CLIP)
    ids = [hashlib.sha256(str(number).encode()).hexdigest()[:16] for number in range(rows // PER_CLIP + 1)]
    corner = np.random.default_rng(0).uniform(0, 1000, (rows, 2)).astype(np.float32)
    points = np.random.default_rng(1).uniform(0, 1000, 10 * rows).astype(np.float32)
    parts = ["train", "validation", "test"] + ["train"] * 7
    columns = {
        "media_id": [ids[c] for c in clip],
        "dataset": ["made"] * rows,
        "name": [f"part_{c % 50}/clip{c:07d}.mp4" for c in clip],
        "label": (clip % 5 > 0).astype(np.int8),
        "method": ["swap" if c % 5 else "" for c in clip],
        "group": [f"source{c // 5:07d}" for c in clip],
        "split": [parts[c // 5 % 10] for c in clip],
        "kind": ["video"] * rows,
        "fold": pa.nulls(rows, pa.int8()),
        "crop": [f"crops/{ids[c][:2]}/{ids[c]}/{10 * f:06d}_0.jpg" for c, f in zip(clip, frame, strict=True)],
        "frame_index": (10 * frame).astype(np.int32),
        "time_s": frame / 3,
        "track": np.zeros(rows, np.int16),
        "x1": corner[:, 0],
        "y1": corner[:, 1],
        "x2": corner[:, 0] + 200,
        "y2": corner[:, 1] + 250,
        "confidence": np.ones(rows, np.float32),
        "landmarks": pa.ListArray.from_arrays(np.arange(0, 10 * rows + 1, 10, dtype=np.int32), pa.array(points)),
        "crop_scale": np.full(rows, 1.3, np.float32),
        "as_is": np.zeros(rows, bool),
    }
    folder.mkdir(parents=True)
    schema = CROPS_SCHEMA.with_metadata({b"dfpipe_schema": str(VERSION).encode()})
    pq.write_table(pa.table(columns, schema=schema), folder / MANIFEST, compression="zstd")
    (folder / CONFIG).write_text(to_yaml(config), encoding="utf-8")


def before_training(manifest: Manifest) -> None:
    """What `dfpipe train` asks of a manifest before its first step, but for the crops on disk and the network."""
    rows = {split: manifest.rows_of(split) for split in ("train", "validation")}
    for split, members in rows.items():
        training._check_labels(manifest, split, members)
    training._check_groups(manifest, rows)
    training.faces_of(manifest, rows["train"])
    training.describe(manifest, rows)
    training.fingerprint(manifest, rows)
    columns = manifest.columns
    kinds = kinds_of(*([columns[name][row] for row in rows["train"]] for name in ("label", "group", "dataset")))
    next(iter(EpochSampler(kinds, "source", 0, 0, 32)))
    for members in rows.values():
        CropDataset(manifest, members, 224, "none")


# ---- finished work --------------------------------------------------------------------------------------------------


def write_inputs(folder: Path, count: int) -> Path:
    """Small files that are named like clips, in folders real and fake."""
    for number in range(count):
        path = folder / ("fake" if number % 5 else "real") / f"{number // 1000:04d}" / f"{number:07d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(number).encode())
    return folder


def finish_extraction(source: Path, out: Path, crops: int, config: Config) -> None:
    """Writes the ledger of an extraction in which every input is finished; the first run then writes the tables."""
    jobs = [
        job for one in scan_all([source], [], config.preprocess.limits, out) for job in jobs_of(one, config, 0, (1, 1))
    ]
    out.mkdir(parents=True)
    ledger = Ledger(out / LEDGER)
    ledger._db.execute("BEGIN")  # one transaction: nothing here must outlive a power cut
    for job in jobs:
        ledger.record(job.key, job.fingerprint, _row(job, crops))
    ledger._db.execute("COMMIT")
    ledger.close()


def _row(job: Job, crops: int) -> dict[str, Any]:
    item, digest = job.item, hashlib.sha256(job.key.encode()).hexdigest()
    about = {"dataset": item.dataset, "name": item.name, "label": item.label, "method": item.method}
    about |= {"group": item.group, "split": item.split, "path": str(item.path), "kind": "video", "sha256": digest}
    counts = dict.fromkeys(("frames_wanted", "frames_decoded", "frames_with_face"), 32)
    found = {"width": 1920, "height": 1080, "fps": 29.97, "duration_s": 10.01, "codec": "h264", "reader": "decord"}
    box = {"x1": 412.123456, "y1": 212.98765, "x2": 612.345678, "y2": 500.12345, "confidence": 0.99987654}
    face = {"track": 0, **box, "landmarks": [400.123456 + x for x in range(10)], "crop_scale": 1.3, "as_is": False}
    place = f"crops/{digest[:2]}/{digest[:16]}"
    rows = [{"crop": f"{place}/{i:06d}_0.jpg", "frame_index": i, "time_s": i / 30, **face} for i in range(crops)]
    state = {"media_id": digest[:16], "state": "ok", "reason": "", "crops": crops, "tracks_dropped": 0, "seconds": 3.1}
    return {**about, **state, **counts, **found, "bits_per_pixel": 0.0912, "crop_rows": rows}


def finish_judging(source: Path, out: Path, detector: Detector, like: dict[str, Any]) -> None:
    """Writes the folder of verdicts of a run that judged every file."""
    with VerdictFolder(out, settings_of(detector, Options())) as folder:
        folder._ledger._db.execute("BEGIN")
        for upload in collect([source]).uploads:
            digest = hashlib.sha256(str(upload).encode()).hexdigest()
            name = folder_name(str(upload), digest)
            (out / name).mkdir()
            (out / name / "report.html").touch()
            line = {**like, "path": str(upload), "sha256": digest, "report": f"{name}/report.html"}
            folder.add(Upload(upload.path), Facts.of(upload), line)
        folder._ledger._db.execute("COMMIT")


def judge_again(source: Path, out: Path, detector: Detector, count: int) -> None:
    """Looks for what is to do, and finds nothing."""
    known = sum(not told.fresh for told in judge_into(detector, collect([source], out).uploads, out, Options()))
    if known != count:
        sys.exit(f"{known} of {count} inputs were known")


def extract_again(source: Path, out: Path, config: Config) -> None:
    """Looks for what is to do, and finds nothing."""
    summary = extract([source], [], out, config)
    if summary.resumed != summary.inputs:
        sys.exit(f"{summary.resumed} of {summary.inputs} inputs were known")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000,10000,100000,1000000", help="Of a manifest.")
    parser.add_argument("--inputs", default="1000,100000", help="That are finished.")
    parser.add_argument("--crops", default="1,32", help="Of each finished input.")
    parser.add_argument("--verdicts", type=Path, help="A verdicts.jsonl, for infer.")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    rows, inputs, crops = (
        [int(word) for word in text.split(",") if word] for text in (args.rows, args.inputs, args.crops)
    )
    config = load_config("default", [])
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        for count in rows:
            write_manifest(where / str(count), count, config)
            timed(f"manifest of {count:,} rows: open", args.runs, partial(read_manifest, where / str(count)))
            manifest = read_manifest(where / str(count))
            timed("  what training asks of it, first time", 1, partial(before_training, manifest))
        detector = Detector.load(None, "cpu") if args.verdicts else None
        for count in inputs:
            source = write_inputs(where / f"inputs{count}", count)
            for each in crops:
                out = where / f"out{count}_{each}"
                finish_extraction(source, out, each, config)
                title = f"extract, {count:,} finished inputs of {each} crops"
                timed(f"{title}: tables written", 1, partial(extract_again, source, out, config))
                timed(f"{title}: again", args.runs, partial(extract_again, source, out, config))
            if detector is not None:
                like = json.loads(args.verdicts.read_text(encoding="utf-8").splitlines()[0])
                finish_judging(source, where / f"verdicts{count}", detector, like)
                title = f"infer, {count:,} judged inputs: again"
                timed(title, args.runs, partial(judge_again, source, where / f"verdicts{count}", detector, count))


if __name__ == "__main__":
    main()
