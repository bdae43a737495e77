"""What do merging, packing and a store cost?

    python benchmarks/stores.py [--inputs 2000] [--crops 32] [--files 200] [--runs 3]

Makes its own data: finished extractions with so many inputs in 4 shards, crops of 15 kB each. Prints median, least and
most of some runs: `merge` with links and with copies against `cp -r`, `merge` again where nothing is new, `pack`, and
reading all crops in random order from their own files and from the tar files (from the page cache). With an S3 server of
moto on this machine, which takes most of the time itself: fetching files of 1 MB by 4 and 16 threads, and sending crops.
"""

import argparse
import hashlib
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dfpipe.config import load_config
from dfpipe.fetching import run_fetched
from dfpipe.ledger import LEDGER, Ledger
from dfpipe.outbox import Outbox, stored_ledger
from dfpipe.preprocess import merge as room
from dfpipe.preprocess.cropfiles import crop_bytes
from dfpipe.preprocess.manifest import read_manifest
from dfpipe.preprocess.merge import merge
from dfpipe.preprocess.packed import pack
from dfpipe.preprocess.publish import publish
from dfpipe.store import Url, listing
from dfpipe.types import MediaItem

CROP_BYTES = 15_000
SHARDS = 4


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("inputs", 2000), ("crops", 32), ("files", 200), ("runs", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = [made(folder / f"shard-{part}", part, told.inputs, told.crops) for part in range(SHARDS)]
        merging(folder, shards, told.runs)
        packing(folder, told.runs)
        storing(folder, shards[0], told.files, told.runs)


def made(folder: Path, part: int, inputs: int, crops: int) -> Path:
    """A finished extraction of one shard."""
    folder.mkdir()
    ledger = Ledger(folder / LEDGER)
    rows = []
    for number in range(part, inputs, SHARDS):
        media_id = hashlib.sha256(str(number).encode()).hexdigest()[:16]
        place = f"crops/{media_id[:2]}/{media_id}"
        (folder / place).mkdir(parents=True)
        names = [f"{place}/{frame:06d}_0.jpg" for frame in range(crops)]
        for crop in names:
            (folder / crop).write_bytes(b"\xff\xd8" + os.urandom(CROP_BYTES - 4) + b"\xff\xd9")
        faces = [{"crop": crop, "frame_index": i, "time_s": i / 25, "track": 0} for i, crop in enumerate(names)]
        row = {
            **{"media_id": media_id, "dataset": "made", "name": f"{number}.mp4", "label": number % 2, "method": ""},
            **{
                "group": str(number // 2),
                "split": None,
                "kind": "video",
                "path": "",
                "sha256": media_id,
                "state": "ok",
            },
            **{"reason": "", "crops": crops, "crop_rows": faces},
        }
        rows.append((f"made/{number}.mp4", "x", row))
    ledger.record_all(rows)
    publish(ledger, (), (), [key for key, _, _ in rows], 0, folder, load_config("demo"))
    ledger.close()
    return folder


def merging(folder: Path, shards: list[Path], runs: int) -> None:
    """Links, copies, nothing new."""
    out = folder / "merged"
    fresh = lambda: shutil.rmtree(out, ignore_errors=True)  # noqa: E731
    measure("cp -r of the crops", lambda: shutil.copytree(shards[0], out), runs, fresh, times=SHARDS)
    link, room._link = room._link, shutil.copyfile  # type: ignore[assignment]
    measure("merge, copies", lambda: merge(shards, out), runs, fresh)
    room._link = link
    measure("merge, links", lambda: merge(shards, out), runs, fresh)
    measure("merge again", lambda: merge(shards, out), runs)


def packing(folder: Path, runs: int) -> None:
    """Tar files, and reading from them."""
    out = folder / "packed"
    fresh = lambda: shutil.rmtree(out, ignore_errors=True)  # noqa: E731
    measure("pack", lambda: pack(folder / "merged", out), runs, fresh)
    for name in ("merged", "packed"):
        manifest = read_manifest(folder / name)
        paths = [str(manifest.path(row)) for row in range(len(manifest))]
        random.Random(0).shuffle(paths)
        measure(f"read {len(paths)} crops, {name}", lambda paths=paths: [len(crop_bytes(p)) for p in paths], runs)  # type: ignore[misc]


def storing(folder: Path, shard: Path, files: int, runs: int) -> None:
    """An S3 server on this machine."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    fs = s3fs.S3FileSystem()
    fs.mkdir("bench")
    for number in range(files):
        fs.pipe_file(f"bench/in/{number}.mp4", os.urandom(1_000_000))
    (folder / "scratch").mkdir()
    origins = listing(Url("s3://bench/in"))
    items = [MediaItem(folder / "scratch" / name, name, "", origin=origin) for name, origin in origins.items()]
    measure(f"list {files} files", lambda: listing(Url("s3://bench/in")), runs)
    for workers in (4, 16):
        run: Callable[[], Any] = lambda workers=workers: sum(  # noqa: E731  # type: ignore[misc]
            result == 1_000_000
            for _, result in run_fetched(size_task, items, setup=nothing, engine="serial", workers=workers)
        )
        measure(f"fetch {files} MB, {workers} threads", run, runs)
    ledger = Ledger(folder / LEDGER)
    ledger.close()
    crops = sorted(path for path in (shard / "crops").glob("*/*"))[:50]
    measure(f"send the crops of {len(crops)} inputs", lambda: sent(folder, shard, crops), 1)
    server.stop()


def sent(folder: Path, shard: Path, crops: list[Path]) -> None:
    """Crops to the store, and its ledger."""
    ledger = stored_ledger(Url("s3://bench/out"), shard)
    with Outbox(Url("s3://bench/out"), shard, ledger, ()) as outbox:
        for path in crops:
            outbox.send(path)
    ledger.close()


def size_task(item: MediaItem) -> int:
    """Stands for the work."""
    return item.path.stat().st_size


def nothing() -> None:
    """No set-up."""


def measure(what: str, run: Callable[[], Any], runs: int, before: Callable[[], Any] = int, times: int = 1) -> None:
    """Prints how long it took on the wall, and the seconds of a core."""
    walls, cores = [], []
    for _ in range(runs):
        before()
        wall, core = time.monotonic(), time.process_time()
        run()
        walls.append(times * (time.monotonic() - wall))
        cores.append(times * (time.process_time() - core))
    print(
        f"{what:<36} {statistics.median(walls):8.2f} s ({min(walls):.2f} to {max(walls):.2f}); "
        f"core {statistics.median(cores):.2f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
