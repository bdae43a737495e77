"""What does an engine add to the work itself?

    python benchmarks/engines.py [--runs 5] [--workers 2] [--cheap 1000] [--large 100] [--clips 24]

Four kinds of inputs, through every engine in turn, in every run; compare the columns of one run, not of different days.

- cheap: the smallest result there is; what is left is the way there and back.
- large: a result of 6 MB, as of the 32 crops of a clip on their way to the network.
- clip: a made-up clip of 48 frames of 320 x 320, its faces found in 8 of them and cut.
- verdict: the same clip, 32 frames, judged by the model that ships: with ray each actor scores, else this process.

Per input: time between the first result and the last, divided by the results in between, so that no start counts. Driver:
processor time of this process alone, in the same span. First: until the first result, with the start of processes and, for
ray, of a cluster of its own. End: after the last result.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dfpipe.config import FacesConfig, LimitsConfig
from dfpipe.demo import clip_frames, write_clip
from dfpipe.infer.detector import Detector
from dfpipe.infer.embedded import embedded_model
from dfpipe.infer.inputs import Upload
from dfpipe.infer.looking import LookJob, look_task
from dfpipe.preprocess.facefinder import setup_of
from dfpipe.types import Label
from dfpipe.workers import ENGINES, run_all

RESULT_BYTES = 6_000_000
NOTHING = functools.partial(int, 0)


def times(results: Iterable[Any]) -> list[float]:
    """Per input, of it in this process, until the first result, and after the last: in s."""
    begun = time.perf_counter()
    came = [(time.perf_counter(), time.process_time()) for _ in results]
    each, driver = ((last - first) / (len(came) - 1) for first, last in zip(came[0], came[-1], strict=True))
    return [each, driver, came[0][0] - begun, time.perf_counter() - came[-1][0]]


def worked_on(task: Callable[[Any], Any], setup: Callable[[], None], inputs: list[Any]) -> Callable[..., Iterable[Any]]:
    """Inputs through an engine."""
    return functools.partial(run_all, task, inputs, setup=setup)


def judged(uploads: list[Upload]) -> Callable[..., Iterable[Any]]:
    """Verdicts through an engine, the model loaded anew each time."""
    return lambda engine, workers: Detector.load(embedded_model(), "cpu", later=True).examine(uploads, engine, workers)


def main() -> None:
    """Prints a table for each kind of input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("runs", 5), ("workers", 2), ("cheap", 1000), ("large", 100), ("clips", 24)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, clip_frames(0, Label.REAL))
        faces = setup_of(FacesConfig(frames=8), LimitsConfig())
        kinds = {
            "cheap": worked_on(abs, NOTHING, list(range(args.cheap))),
            "large": worked_on(bytes, NOTHING, [RESULT_BYTES] * args.large),
            "clip": worked_on(look_task, faces, [LookJob(Upload(clip))] * args.clips),
            "verdict": judged([Upload(clip)] * args.clips),
        }
        print(f"{os.cpu_count()} cores, {args.workers} workers, median (lowest to highest) of {args.runs} runs\n")
        print(f"{'':15}{'ms per input':>28}{'of local':>10}{'driver, core-ms':>28}{'first, s':>24}{'end, s':>22}")
        for kind, results in kinds.items():
            found: dict[str, list[list[float]]] = {engine: [] for engine in ENGINES}
            for _ in range(args.runs):
                for engine in ENGINES:
                    found[engine].append(times(results(engine=engine, workers=args.workers)))
            for engine, runs in found.items():
                each, driver, first, end = zip(*runs, strict=True)
                ratios = [mine[0] / local[0] for mine, local in zip(runs, found["local"], strict=True)]
                told = f"{spread([1000 * value for value in each]):>28}{statistics.median(ratios):>10.2f}"
                told += f"{spread([1000 * value for value in driver]):>28}"
                print(f"{kind:8}{engine:7}{told}{spread(first):>24}{spread(end):>22}", flush=True)


def spread(values: Any) -> str:
    """The median, and in brackets the lowest and the highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
