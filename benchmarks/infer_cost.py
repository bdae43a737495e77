"""What does a verdict cost? Cold, warm, in memory, and which part takes how much.

    python benchmarks/infer_cost.py CLIP --model model.safetensors [--runs 3]

All parts are measured in this run on this machine; compare shares and ratios, not seconds of different days. "Cold" is the
whole command from the shell, with one worker: interpreter, imports, model, clip, report. "Warm" is one more clip in a
process that has everything loaded, with its parts below it, worked through one after the other on one thread.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORKER_IMPORTS = "import dfpipe.infer.detector"


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    start = time.perf_counter()
    result = what()
    return time.perf_counter() - start, result


def python(*words: str) -> float:
    """Seconds of a fresh interpreter."""
    return timed(lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True))[0]


def cold(clip: Path, model: Path) -> float:
    """Seconds of the whole command."""
    with tempfile.TemporaryDirectory() as out:
        return python("-m", "dfpipe", "infer", str(clip), "--model", str(model), "--out", out, "--workers", "1")


def parts(clip: Path, model: Path) -> tuple[dict[str, float], float]:
    """Seconds of each part of one more clip, and of all of it in one go."""
    import torch

    from dfpipe.infer.detector import Detector
    from dfpipe.infer.inputs import Upload
    from dfpipe.infer.judging import Options, judge_into
    from dfpipe.infer.report import write_report
    from dfpipe.infer.verdicts import to_json
    from dfpipe.preprocess.crops import crop_face
    from dfpipe.preprocess.faces import find_faces, load_detector
    from dfpipe.preprocess.readers import BATCH, open_video
    from dfpipe.preprocess.sampling import pick

    torch.set_num_threads(1)
    detector = Detector.load(model, "cpu")
    faces = detector.model.card.faces
    (judged,) = detector.examine([Upload(clip)], "serial")  # also warms up
    finder = load_detector(faces)
    found: dict[str, float] = {}

    def decode() -> list[Any]:
        with open_video(clip, faces.reader) as video:
            return [frame.image for frame in video.frames(pick(video.timeline, faces))]

    found["decode"], images = timed(decode)
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    found["detect"], boxes = timed(lambda: [b for batch in batches for b in find_faces(finder, batch, faces)])
    pairs = [(image, box) for image, some in zip(images, boxes, strict=True) for box in some]
    found["cut"], _ = timed(lambda: [crop_face(i, b, faces.crop_scale, faces.crop_size) for i, b in pairs])
    found["score"], _ = timed(lambda: detector.score(judged.crops))
    with tempfile.TemporaryDirectory() as name:
        found["report"], _ = timed(
            lambda: write_report(Path(name), judged, to_json(judged.verdict), detector, heat=False)
        )
    with tempfile.TemporaryDirectory() as name:
        work = judge_into(detector, [Upload(clip)], Path(name), Options(engine="serial"))
        whole, _ = timed(lambda: list(work))
    return found, whole


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    words = parser.parse_args()
    runs = range(words.runs)
    colds = [cold(words.clip, words.model) for _ in runs]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    bare = [python("-c", "") for _ in runs]
    imports = [python("-c", WORKER_IMPORTS) for _ in runs]
    taken = [parts(words.clip, words.model) for _ in runs]
    middle = {name: statistics.median(t[0][name] for t in taken) for name in taken[0][0]}
    warm = statistics.median(t[1] for t in taken)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"median of {words.runs} runs; in brackets the lowest and highest\n")
    for name, values in (("cold, whole command", colds), ("  bare interpreter", bare), ("  imports", imports)):
        print(f"{name:<22} {statistics.median(values):6.2f} s  ({min(values):.2f} to {max(values):.2f})")
    print(f"{'largest process, cold':<22} {peak / 1e9:6.2f} GB")
    print(f"{'warm, per clip':<22} {warm:6.2f} s  = {warm / statistics.median(colds):.2f} of cold")
    total = sum(middle.values())
    for name, seconds in middle.items():
        print(f"  {name:<20} {seconds:6.2f} s  {100 * seconds / total:5.1f} %")


if __name__ == "__main__":
    main()
