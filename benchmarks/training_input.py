"""Does the training input keep up? Reading and augmenting crops, against decoding alone and against the training step.

    OMP_NUM_THREADS=1 python benchmarks/training_input.py [--model NAME] [--size 192] [--device cpu] [--runs 5]

Figures are core-milliseconds a crop, so that they can be compared on a machine that does other things too; on a GPU, the
step is told in milliseconds of the clock. "Input" is what a loader process does for one crop: read the JPEG, augment it,
make a tensor of it. "Step" is what the training loop does with a batch: to float, forward, backward, optimiser. With
loader processes, the first figure is what a batch costs the process that trains, the second the clock's time; the crops
are made from one portrait, 256 px, as extraction writes them, and lie in the file cache.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from measuring import core_seconds, machine, made_crops, measured, middle
from PIL import Image
from torchvision.io import decode_jpeg, read_file

from dfpipe.config import load_config
from dfpipe.preprocess.manifest import Manifest
from dfpipe.train.dataset import CropDataset
from dfpipe.train.devices import autocast, pick_device, precision_of
from dfpipe.train.loader import loader
from dfpipe.train.memory import keep_freed_memory
from dfpipe.train.models import create_model
from dfpipe.train.optim import create_optimizer
from dfpipe.train.stages import learning, stages_of, to_training
from dfpipe.train.transforms import AUGMENTATIONS, in_unit_range

DECODERS: dict[str, Callable[[str], object]] = {
    "decode, OpenCV": cv2.imread,
    "decode, Pillow": lambda path: np.asarray(Image.open(path).convert("RGB")),
    "decode, torchvision": lambda path: decode_jpeg(read_file(path)),
}
GOAL = 5  # times the speed of the step


def inputs(manifest: Manifest, size: int) -> dict[str, Callable[[], object]]:
    """Everything that can be done to all crops once."""
    paths = [str(manifest.path(row)) for row in range(len(manifest))]
    work: dict[str, Callable[[], object]] = {
        name: lambda decode=decode: [decode(path) for path in paths]  # type: ignore[misc]
        for name, decode in DECODERS.items()
    }
    for augment in AUGMENTATIONS:
        data = CropDataset(manifest, range(len(manifest)), size, augment)
        work[f"input, {augment}"] = lambda data=data: [data[i, 7919 * i] for i in range(len(data))]  # type: ignore[misc]
    return work


def step(model: str, size: int, batch: int, device: torch.device, precision: str) -> Callable[[], object]:
    """One update, as the training loop makes it."""
    config = load_config("default", [f"train.model={model}", f"train.image_size={size}", "train.pretrained=none"]).train
    network, _ = create_model(config)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    to_training(network)
    optimizer = create_optimizer(config, stages_of(config)[0], learning(network))
    images = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.arange(batch, device=device) % 2

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision_of(device, precision)):
            logits = network(in_unit_range(images.to(device))).float()
        F.binary_cross_entropy_with_logits(logits, labels.float()).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return update


def clocked(work: Callable[[], object], runs: int, crops: int) -> list[float]:
    """Milliseconds of the clock a crop, after three runs to warm up."""
    taken = []
    for _ in range(runs + 3):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start) / crops)
    return taken[3:]


def with_processes(manifest: Manifest, size: int, workers: int, runs: int) -> tuple[list[float], list[float]]:
    """Core-milliseconds of this process, and milliseconds of the clock, for a crop of a batch of 32 ("strong")."""
    data = CropDataset(manifest, range(len(manifest)), size, "strong")
    batches = loader(data, [(i, 7919 * i) for i in range(len(data))], 32, workers, False)
    own, clock = [], []
    for run in range(runs + 1):
        began, start = time.perf_counter(), core_seconds()
        for images, _ in batches:
            in_unit_range(images)
        if run:
            own.append(1000 * (core_seconds() - start) / len(data))
            clock.append(1000 * (time.perf_counter() - began) / len(data))
    return own, clock


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tf_efficientnet_lite0", help="of the step; any name that timm knows")
    parser.add_argument("--size", type=int, default=192, help="of the network's input, px")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--crops", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="where the step runs")
    parser.add_argument("--precision", default="auto", help="see train.precision")
    words = parser.parse_args()
    cv2.setNumThreads(1)
    device = pick_device(words.device)
    print(machine("torch", "torchvision", "opencv-python-headless", "av"))
    print(f"core-ms a crop, median of {words.runs} runs; in brackets the lowest and highest\n")
    with tempfile.TemporaryDirectory() as name:
        manifest = made_crops(Path(name), words.crops)
        taken = measured(inputs(manifest, words.size), words.runs, words.crops)
        processes = {w: with_processes(manifest, words.size, w, words.runs) for w in (0, 1, 2)}
    keep_freed_memory()  # as a training does
    update = step(words.model, words.size, words.batch, device, words.precision)
    one = {"step": update}
    steps = measured(one, words.runs, words.batch)["step"] if device.type == "cpu" else clocked(update, 20, words.batch)
    whole, bare = statistics.median(steps), statistics.median(taken["decode, OpenCV"])
    print(f"{'step, ' + words.model:<30} {middle(steps)}   {device}, {words.precision}, batch {words.batch}")
    for name, values in taken.items():
        cost = statistics.median(values)
        print(f"{name:<30} {middle(values)}   {cost / bare:4.1f} x decoding, step / this {whole / cost:5.1f}")
    print(f"\nloader processes, strong: core-ms a crop of the process that trains | ms of the clock (goal: {GOAL} x)")
    for workers, (own, clock) in processes.items():
        print(f"{workers:<30} {middle(own)} | {middle(clock)}")


if __name__ == "__main__":
    main()
