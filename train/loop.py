"""The room's verb: fit a classifier to the crops of a manifest and keep the epoch that validates best."""

import csv
import hashlib
import logging
import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from dfpipe.config import Config, FacesConfig, from_mapping, to_mapping, to_yaml
from dfpipe.errors import DataError, choose
from dfpipe.files import disk_errors
from dfpipe.preprocess.manifest import CONFIG, Manifest, read_manifest
from dfpipe.preprocess.splits import SPLITS
from dfpipe.train.balance import BALANCES
from dfpipe.train.dataset import CropDataset
from dfpipe.train.devices import autocast, pick_device
from dfpipe.train.loader import EpochSampler, loader
from dfpipe.train.metrics import binary_metrics
from dfpipe.train.modelfile import ModelCard, save_model
from dfpipe.train.models import FaceClassifier, create_model
from dfpipe.train.transforms import AUGMENTATIONS

log = logging.getLogger(__name__)

MODEL = "model.safetensors"  # its name in every run folder
MIXED_SCALES = 1.05  # crops whose scales differ by more than this factor do not look alike to a network


@dataclass(frozen=True)
class Trained:
    """How a training ended."""

    model: Path
    epochs: int  # that were run
    best_epoch: int  # from 1
    validation: dict[str, float | None]  # metrics of the best epoch
    stopped_early: bool
    seconds: float


def train(config: Config, data: Path, out: Path, recipe: str = "default", device_name: str = "auto") -> Trained:
    """Trains one model.

    Args:
        config: Settings; `train` and `seed` matter here.
        data: Folder of extracted faces.
        out: Folder of runs; this one gets a folder of its own in it, named by time and recipe.
        recipe: Name of the config, for the name of the run.
        device_name: See `pick_device`.

    Returns:
        Where the model file is, and the validation metrics of the epoch that it holds.

    Raises:
        SourceError: No manifest there.
        DataError: Nothing to train or validate on, one label missing, crops missing, the loss is no number any more.
        ConfigError: Unknown model, augmentation or balance.
    """
    start = time.perf_counter()
    cfg = config.train
    choose(AUGMENTATIONS, cfg.augment, "train.augment")
    choose(BALANCES, cfg.balance, "train.balance")
    device = pick_device(device_name)
    manifest = read_manifest(data)
    rows = {split: manifest.rows_of(split) for split in ("train", "validation")}
    _check_data(manifest, rows)
    faces = _faces_of(manifest, rows["train"])
    torch.manual_seed(config.seed)
    network, origin = create_model(cfg.model, cfg.pretrained)
    log.info("%s on %s, starting from %s", cfg.model, device, origin)
    folder = _run_folder(out, recipe)
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    card = ModelCard(
        name=folder.name,
        architecture=cfg.model,
        image_size=cfg.image_size,
        mean=_triple(network.mean),
        std=_triple(network.std),
        faces=faces,
        data={**_describe(manifest), "initial_weights": origin},
        config=to_mapping(config),
    )
    fit = _Fit(config, network, card, manifest, rows, device, folder)
    best_epoch, validation, epochs = fit.run()
    seconds = time.perf_counter() - start
    return Trained(folder / MODEL, epochs, best_epoch, validation, epochs < cfg.epochs, seconds)


class _Fit:
    """One training run: what its epochs share."""

    def __init__(
        self,
        config: Config,
        network: FaceClassifier,
        card: ModelCard,
        manifest: Manifest,
        rows: dict[str, list[int]],
        device: torch.device,
        folder: Path,
    ) -> None:
        cfg = config.train
        self.cfg, self.card, self.device, self.folder = cfg, card, device, folder
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        fitting = CropDataset(manifest, rows["train"], cfg.image_size, cfg.augment)
        holding = CropDataset(manifest, rows["validation"], cfg.image_size, "none")
        self.sampler = EpochSampler(fitting.labels, cfg.balance, config.seed, cfg.samples_per_epoch)
        pinned = device.type == "cuda"
        self.fitting = loader(fitting, self.sampler, cfg.batch_size, cfg.loader_workers, pinned)
        in_order = [(i, 0) for i in range(len(holding))]
        self.holding = loader(holding, in_order, 2 * cfg.batch_size, cfg.loader_workers, pinned)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), cfg.learning_rate, weight_decay=cfg.weight_decay)
        steps = cfg.epochs * len(self.fitting)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, cfg.learning_rate, total_steps=steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda" and not _has_bf16())

    def run(self) -> tuple[int, dict[str, float | None], int]:
        """All epochs. Returns the best one (from 1), its validation metrics, and how many were run."""
        best_epoch, best = 0, {}
        best_value = (-math.inf, -math.inf)
        for epoch in range(1, self.cfg.epochs + 1):
            began = time.perf_counter()
            loss, seen = self._fit_epoch(epoch)
            fitted = time.perf_counter() - began
            validation = evaluate(self.network, self.holding, self.device)
            value = goodness(validation, self.cfg.monitor)
            if value > best_value:
                best_epoch, best_value, best = epoch, value, validation
                metrics = {"validation": {**validation, "epoch": epoch, "crops": len(self.holding.dataset)}}  # type: ignore[arg-type]
                save_model(self.folder / MODEL, self.network, replace(self.card, metrics=metrics))
            self._log(epoch, loss, validation, seen / fitted, best_epoch)
            if self.cfg.early_stop and epoch - best_epoch >= self.cfg.early_stop:
                break
        return best_epoch, best, epoch

    def _fit_epoch(self, epoch: int) -> tuple[float, int]:
        """One pass over the training crops. Returns the mean loss and how many crops were seen."""
        self.network.train()
        self.sampler.epoch = epoch - 1
        total, seen = 0.0, 0
        with tqdm(
            self.fitting, desc=f"epoch {epoch}/{self.cfg.epochs}", unit="batch", disable=None, leave=False
        ) as bar:
            for images, labels in bar:
                loss = self._step(images, labels)
                if not math.isfinite(loss):
                    raise DataError(
                        f"the loss is no number any more in epoch {epoch}: lower train.learning_rate; "
                        f"the best weights so far are kept in {self.folder}"
                    )
                total, seen = total + loss * len(labels), seen + len(labels)
                bar.set_postfix(loss=f"{total / seen:.3f}", refresh=False)
        return total / seen, seen

    def _step(self, images: Tensor, labels: Tensor) -> float:
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        labels = labels.to(self.device, non_blocking=True)
        smooth = self.cfg.label_smoothing
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device):
            logits = self.network(images)
            loss = F.binary_cross_entropy_with_logits(logits.float(), labels * (1 - 2 * smooth) + smooth)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return float(loss.detach())

    def _log(
        self, epoch: int, loss: float, validation: dict[str, float | None], images_per_s: float, best_epoch: int
    ) -> None:
        """A line in metrics.csv and one for the person who waits."""
        row = {
            "epoch": epoch,
            "train_loss": round(loss, 6),
            **{f"validation_{k}": None if v is None else round(v, 6) for k, v in validation.items()},
            "learning_rate": self.schedule.get_last_lr()[0],
            "images_per_s": round(images_per_s, 1),
            "best_so_far": epoch == best_epoch,
        }
        path = self.folder / "metrics.csv"
        with disk_errors(self.folder), path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row)
            if epoch == 1:
                writer.writeheader()
            writer.writerow(row)
        log.info(
            "epoch %d/%d: train loss %.3f, validation loss %s, AUC %s, accuracy %s, %.0f images/s%s",
            epoch,
            self.cfg.epochs,
            loss,
            *(shown(validation[k]) for k in ("log_loss", "auc", "accuracy")),
            images_per_s,
            " (best so far)" if epoch == best_epoch else "",
        )


@torch.inference_mode()
def evaluate(
    network: FaceClassifier, batches: DataLoader[tuple[Tensor, Tensor]], device: torch.device
) -> dict[str, float | None]:
    """Metrics of a network over labelled crops."""
    network.eval()
    scores: list[float] = []
    labels: list[int] = []
    for images, truth in tqdm(batches, desc="validate", unit="batch", disable=None, leave=False):
        with autocast(device):
            logits = network(images.to(device, non_blocking=True, memory_format=torch.channels_last))
        scores += torch.sigmoid(logits.double()).cpu().tolist()
        labels += truth.int().tolist()
    return binary_metrics(labels, scores)


def goodness(validation: dict[str, float | None], monitor: str) -> tuple[float, float]:
    """What the best epoch has most of: the monitored metric, and the loss between equals.

    Where the AUC is undefined, because validation holds one label only, the loss alone counts.
    """
    auc, loss = validation["auc"], validation["log_loss"]
    by_loss = -loss if loss is not None else -math.inf
    return (auc if monitor == "auc" and auc is not None else by_loss, by_loss)


def shown(value: float | None) -> str:
    """A metric for reading."""
    return "undefined" if value is None else f"{value:.3f}"


def _has_bf16() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def _triple(buffer: Tensor) -> tuple[float, float, float]:
    r, g, b = (round(x, 6) for x in buffer.flatten().tolist())
    return r, g, b


def _run_folder(out: Path, recipe: str) -> Path:
    """A new folder named by time and recipe."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(recipe).stem}"
    for attempt in range(100):
        folder = out / (stem if not attempt else f"{stem}-{attempt + 1}")
        try:
            with disk_errors(out):
                out.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise DataError(f"cannot make a new run folder in {out}")


# ---- what the data must be -------------------------------------------------------------------------------------------


def _check_data(manifest: Manifest, rows: dict[str, list[int]]) -> None:
    """Refuses, before the first epoch, data on which no honest training is possible."""
    for split, members in rows.items():
        found = Counter(manifest.columns["label"][row] for row in members)
        if None in found:
            raise DataError(f"{found[None]} crops of split {split!r} have no label: extract from a labelled source")
        if not found:
            raise DataError(
                f"no crops in split {split!r} of {manifest.folder} ({_split_counts(manifest)}): extract more source "
                "clips, or change preprocess.split and extract again"
            )
        if split == "train" and len(found) < 2:
            only = "real" if 0 in found else "fake"
            raise DataError(f"all crops of split 'train' are {only}: training needs both labels; extract more sources")
    missing = [row for members in rows.values() for row in members if not manifest.path(row).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} crops of the manifest are not on disk (first: {manifest.path(missing[0])}): "
            "delete ledger.sqlite beside the manifest and run the same 'dfpipe extract' again"
        )


def _faces_of(manifest: Manifest, rows: Sequence[int]) -> FacesConfig:
    """How inference must cut its crops to see what training saw."""
    path = manifest.folder / CONFIG
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = from_mapping(Config, values)
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path} is missing or damaged: run the same 'dfpipe extract' again") from error
    scales = [manifest.columns["crop_scale"][row] for row in rows]
    if max(scales) > MIXED_SCALES * min(scales):
        log.warning(
            "crops of different framing are mixed (scale %.2f to %.2f): clips will be cut at their median",
            min(scales),
            max(scales),
        )
    faces = to_mapping(config.preprocess.faces) | {"crop_scale": round(statistics.median(scales), 4)}
    return from_mapping(FacesConfig, faces)


def _describe(manifest: Manifest) -> dict[str, Any]:
    """What the model file says of its data."""
    columns = manifest.columns
    lines = sorted(set(zip(columns["dataset"], columns["group"], columns["split"], strict=True)))
    digest = hashlib.sha256("\n".join(map(repr, lines)).encode()).hexdigest()
    return {
        "datasets": sorted(set(columns["dataset"])),
        "crops": {s: _labels(manifest, manifest.rows_of(s)) for s in SPLITS},
        "groups": len({line[:2] for line in lines}),
        "split_fingerprint": digest,
    }


def _labels(manifest: Manifest, rows: Sequence[int]) -> dict[str, int]:
    found = Counter(manifest.columns["label"][row] for row in rows)
    return {"real": found[0], "fake": found[1]}


def _split_counts(manifest: Manifest) -> str:
    return ", ".join(f"{split} {len(manifest.rows_of(split))}" for split in SPLITS)
