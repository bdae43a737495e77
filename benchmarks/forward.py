"""How near is the forward pass to what torch can do here? Variants and batch sizes, against matrix products and copies.

    OMP_NUM_THREADS=1 python benchmarks/forward.py [--model FILE] [--device cpu] [--runs 5]

The ceiling is the arithmetic of one large matrix product, in the same number of threads; a large copy tells what memory
allows. The floating point operations of the network are counted by torch. Figures are core-milliseconds a crop (on a GPU,
milliseconds of the clock) for 32 crops, sent through in parts of so many at once; before each, freed memory goes back to
the system, as it does after every clip. "As scored" is what `Detector` does. The last column is how far the probabilities
are from those of the network as it was trained, in one batch.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from measuring import core_seconds, machine, made_crops, middle
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from dfpipe.infer.detector import CPU_BATCH, find_model
from dfpipe.sandbox import give_back_memory
from dfpipe.train.devices import pick_device
from dfpipe.train.modelfile import load_model
from dfpipe.train.transforms import resized

CROPS = 32  # of a clip
PARTS = (1, 4, 8, 32)
Variant = Callable[[Tensor], Tensor]


def fused(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy with batch normalisation folded into the convolutions whose output it takes, as seen in one pass."""
    network = copy.deepcopy(network)
    outputs: list[tuple[Tensor, nn.Conv2d]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            outputs.append((output, module))

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.BatchNorm2d):
            pairs.extend((conv, module) for output, conv in outputs if output is inputs[0])

    handles = [m.register_forward_hook(after) for m in network.modules()]
    handles += [m.register_forward_pre_hook(before) for m in network.modules()]
    network(example)
    for handle in handles:
        handle.remove()
    names = {module: name for name, module in network.named_modules()}
    for conv, norm in pairs:
        rest = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
        network.set_submodule(names[conv], fuse_conv_bn_eval(conv, norm))
        network.set_submodule(names[norm], rest)
    return network


def variants(network: nn.Module, example: Tensor) -> dict[str, tuple[Variant, torch.memory_format]]:
    """What can be done to a network, and how its input lies in memory."""
    device = example.device.type
    folded = fused(network, example)

    def bf16(inner: nn.Module) -> Variant:
        def run(images: Tensor) -> Tensor:
            with torch.autocast(device, torch.bfloat16):
                result: Tensor = inner(images)
            return result

        return run

    last = torch.channels_last
    return {
        "channels first": (network, torch.contiguous_format),
        "channels last": (network, last),
        "channels last, fused": (folded, last),
        "channels last, bf16": (bf16(network), last),
        "channels last, fused, bf16": (bf16(folded), last),
    }


def seconds(device: torch.device) -> float:
    """Of the cores, or on a GPU of the clock once it has done what it was given."""
    if device.type == "cpu":
        return core_seconds()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP a second of a large matrix product."""
    side = 2048
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    taken = []
    for _ in range(5):
        start = seconds(device)
        a @ b
        taken.append(seconds(device) - start)
    return 2 * side**3 / min(taken) / 1e9


def copying(device: torch.device) -> float:
    """GB a second, read and written, of a copy far larger than any cache."""
    source = torch.rand(2**26, device=device)
    target = torch.empty_like(source)
    taken = []
    for _ in range(5):
        start = seconds(device)
        target.copy_(source)
        taken.append(seconds(device) - start)
    return 2 * source.nbytes / min(taken) / 1e9


def crops(count: int, size: int) -> Tensor:
    """Input of the network made from one portrait."""
    with tempfile.TemporaryDirectory() as name:
        manifest = made_crops(Path(name), count)
        images = [cv2.imread(str(manifest.path(row)), cv2.IMREAD_COLOR_RGB) for row in range(count)]
    return resized(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), size)


@torch.inference_mode()
def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model file; left out, the one that `dfpipe infer` would take")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=5)
    words = parser.parse_args()
    device = pick_device(words.device)
    file = find_model(words.model, Path("runs"))
    model = load_model(file, device, shipped=words.model is None)
    images = crops(CROPS, model.card.image_size).to(device)
    with FlopCounterMode(display=False) as counter:
        model.network(images[:1])
    gflop = counter.get_total_flops() / 1e9
    top = ceiling(device, torch.float32)
    print(machine("torch", "timm"), f"{torch.get_num_threads()} torch threads, {device}", sep=", ")
    print(f"{model.card.architecture}, {model.card.image_size} px: {gflop:.3f} GFLOP a crop")
    print(f"matrix product: {top:.0f} GFLOP/s in float32, {ceiling(device, torch.bfloat16):.0f} in bfloat16")
    print(f"so no crop in less than {1000 * gflop / top:.2f} ms in float32; copy: {copying(device):.0f} GB/s\n")
    print(f"core-ms a crop, median of {words.runs} runs, parts in turn; on a GPU ms of the clock\n")
    expected = model.network(images).double().sigmoid()
    for name, (run, order) in variants(model.network, images[:2]).items():
        laid = images.contiguous(memory_format=order)
        apart = float((run(laid).double().sigmoid() - expected).abs().max())
        taken: dict[int, list[float]] = {part: [] for part in PARTS}
        for _ in range(words.runs):
            for part, values in taken.items():
                give_back_memory()
                start = seconds(device)
                for some in laid.split(part):
                    run(some)
                values.append(1000 * (seconds(device) - start) / CROPS)
        for part, values in taken.items():
            share = gflop / (statistics.median(values) / 1000) / top
            scored = "  <- as scored" if (name, part) == ("channels last", CPU_BATCH) and device.type == "cpu" else ""
            print(f"{name:<27} {part:>3} at once {middle(values)} {share:5.0%} of the product  {apart:.0e}{scored}")


if __name__ == "__main__":
    main()
