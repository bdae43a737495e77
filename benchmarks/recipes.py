"""Trains every recipe for the same small budget on the same crops, and writes one table.

    python benchmarks/recipes.py data/faces --out docs/recipes_measured.md

The budget is a number of crops shown, the same for every recipe, divided over its phases; input size, batch, optimiser,
rates, head, freezing, balance and augmentation stay the recipe's own. The checkpoint is chosen on validation, the figures
under "test" are then measured once. A machine without network has no ImageNet weights for most backbones; the column
"starts from" says what was used.
"""

import argparse
import json
import logging
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dfpipe.config import Config, StageConfig, load_config, recipes
from dfpipe.errors import DfpipeError
from dfpipe.preprocess.manifest import Manifest, read_manifest
from dfpipe.train.dataset import CropDataset
from dfpipe.train.loader import loader
from dfpipe.train.loop import train
from dfpipe.train.modelfile import load_model
from dfpipe.train.validate import loss_and_metrics, scored

# Settings for made-up clips, and those of the embedded model, which has a benchmark of its own.
SKIPPED = ("demo", "default_model", "default_model_192")


def main() -> None:
    """Trains, measures, writes a line of JSON per recipe as it goes, and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of extracted faces")
    parser.add_argument("--crops", type=int, default=256, help="shown in training, to every recipe")
    parser.add_argument("--held-out", type=int, default=120, help="crops of validation, and as many of test")
    parser.add_argument("--only", nargs="*", default=[], help="these recipes alone")
    parser.add_argument("--weights-dir", default="", help="folder with ImageNet weights, see train.weights_dir")
    parser.add_argument("--out", type=Path, default=Path("recipes.md"))
    wanted = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    manifest = read_manifest(wanted.data)
    rows = {
        "train": manifest.rows_of("train"),
        "validation": some(manifest, "validation", wanted.held_out),
        "test": some(manifest, "test", wanted.held_out),
    }
    lines = wanted.out.with_suffix(".jsonl")
    known = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    for name in wanted.only or [name for name in recipes() if name not in SKIPPED]:
        if name in {entry["recipe"] for entry in known}:
            continue
        known.append(measured(name, wanted, manifest, rows))
        lines.write_text("".join(json.dumps(entry) + "\n" for entry in known))
        print(json.dumps(known[-1]), flush=True)
    wanted.out.write_text(table(known, wanted, rows))


def some(manifest: Manifest, split: str, count: int) -> list[int]:
    """Crops of a split, half of them real, spread evenly over it."""
    members = manifest.rows_of(split)
    chosen = []
    for label in (0, 1):
        own = [row for row in members if manifest.columns["label"][row] == label]
        step = max(len(own) / (count // 2), 1)
        chosen += [own[int(i * step)] for i in range(min(count // 2, len(own)))]
    return sorted(chosen)


def small(name: str, crops: int, weights_dir: str) -> Config:
    """A recipe with one epoch per phase and the budget divided over the phases."""
    train_config = load_config(name).train
    stages = tuple(replace(stage, epochs=1) for stage in train_config.stages) or (StageConfig(epochs=1),)
    return load_config(name).with_train(
        stages=stages,
        samples_per_epoch=crops // len(stages),
        early_stop=0,
        weights_dir=weights_dir,
        batch_size=min(train_config.batch_size, 32),
        accumulate=math.ceil(train_config.batch_size / 32),
        loader_workers=0,
    )


def measured(name: str, wanted: argparse.Namespace, manifest: Manifest, rows: dict[str, list[int]]) -> dict[str, Any]:
    """Trains one recipe and measures it on validation and test."""
    config = small(name, wanted.crops, wanted.weights_dir)
    start = time.process_time()  # of this process alone: the machine may be busy with other things
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = train(config, wanted.data, Path(folder), name, rows=rows)
        except DfpipeError as error:
            if "no ImageNet weights" not in str(error):
                raise
            config = config.with_train(pretrained="none")
            done = train(config, wanted.data, Path(folder), name, rows=rows)
        seconds = time.process_time() - start
        model = load_model(done.model)
    test = CropDataset(manifest, rows["test"], model.card.image_size, "none")
    batches = loader(test, [(i, 0) for i in range(len(test))], 32, 0, False)
    figures = loss_and_metrics(*scored(model.network, batches, torch.device("cpu")))
    return {
        "recipe": name,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "starts_from": "ImageNet" if str(model.card.data["initial_weights"]).startswith("ImageNet") else "nothing",
        "side": model.card.image_size,
        "validation": done.validation,
        "test": figures,
        "cpu_seconds": seconds,
    }


def table(entries: list[dict[str, Any]], wanted: argparse.Namespace, rows: dict[str, list[int]]) -> str:
    """The figures as Markdown."""
    head = (
        "| recipe | parameters | px | starts from | validation AUC | test AUC | test accuracy | test F1 | CPU seconds |"
    )
    lines = [
        f"{wanted.crops} crops shown to each recipe; measured on {len(rows['validation'])} validation and "
        f"{len(rows['test'])} test crops.",
        "",
        head,
        "|---" * 9 + "|",
    ]
    for entry in sorted(entries, key=lambda e: -(e["test"]["auc"] or 0)):
        test = entry["test"]
        figures = [entry["validation"]["auc"], test["auc"], test["accuracy"], test["f1"]]
        shown = " | ".join("undefined" if value is None else f"{value:.3f}" for value in figures)
        lines.append(
            f"| {entry['recipe']} | {entry['parameters']:,} | {entry['side']} | {entry['starts_from']} | {shown} | "
            f"{entry['cpu_seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
