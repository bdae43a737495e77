"""One training run: phases of epochs of updates, validated, logged, saved, and able to go on after a kill."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor
from tqdm import tqdm

from dfpipe.config import Config
from dfpipe.errors import DataError, ResourceError
from dfpipe.preprocess.manifest import Manifest
from dfpipe.train.balance import class_weights, kinds_of
from dfpipe.train.card import ModelCard
from dfpipe.train.checkpoint import Place, forget_state, load_state, save_state
from dfpipe.train.dataset import CropDataset
from dfpipe.train.devices import autocast, precision_of
from dfpipe.train.ema import running_mean
from dfpipe.train.loader import EpochSampler, loader
from dfpipe.train.metrics import binary_metrics
from dfpipe.train.modelfile import save_model
from dfpipe.train.models import FaceClassifier
from dfpipe.train.optim import Schedule, create_optimizer
from dfpipe.train.runlog import RunLog
from dfpipe.train.stages import Stage, learning, set_free, stages_of, to_training
from dfpipe.train.transforms import in_unit_range
from dfpipe.train.validate import Batch, Metrics, goodness, loss_and_metrics, scored, shown
from dfpipe.train.world import World

log = logging.getLogger(__name__)

OnEpoch = Callable[[int, Metrics], None]

MODEL, LAST, KEPT = "model.safetensors", "last.safetensors", "epoch_{}.safetensors"  # the best, the last, asked for
CHECK_EVERY = 20  # updates between two looks at the loss, each of which waits for the GPU


@dataclass(frozen=True)
class Task:
    """What a run is about."""

    config: Config
    manifest: Manifest
    rows: Mapping[str, Sequence[int]]  # of the splits train and validation
    card: ModelCard
    folder: Path
    fingerprint: str  # of data and config: a resumed run must have the same


class Fit:
    """One training run.

    Args:
        task: What it is about.
        network: To be trained.
        device: Where.
        world: This process among those that train together.
        resume: Whether to go on from the state in the run's folder.

    Raises:
        DataError: The state belongs to other data or another config.
    """

    def __init__(
        self, task: Task, network: FaceClassifier, device: torch.device, world: World, *, resume: bool = False
    ) -> None:
        cfg = task.config.train
        self.task, self.cfg, self.device, self.world = task, cfg, device, world
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if world.size > 1 and device.type == "cuda":
            self.network = convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]  # timm's own: it knows fused kinds
        self.ema = running_mean(self.network, cfg.ema) if cfg.ema else None
        self.dtype = precision_of(device, cfg.precision)
        self.stages = stages_of(cfg)
        self._make_loaders()
        self.place = Place(micro=cfg.batch_size)
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []  # loss, logits, labels of the batches of this epoch
        self._state: dict[str, Any] = {}
        if resume:
            self._resume()
        self.log = RunLog(task.folder, self.place.epoch) if world.first else None

    def _make_loaders(self) -> None:
        task, cfg, world = self.task, self.cfg, self.world
        columns = task.manifest.columns
        rows = task.rows["train"]
        kinds = kinds_of(*([columns[name][row] for row in rows] for name in ("label", "group", "dataset")))
        pinned = self.device.type == "cuda"
        seed = task.config.seed
        self.sampler = EpochSampler(kinds, cfg.balance, seed, cfg.samples_per_epoch, cfg.batch_size, world)
        if not self.sampler.whole:
            raise DataError(
                f"an epoch of {len(self.sampler.order())} crops is too short for {world.size} processes: use fewer"
            )
        weights = class_weights(kinds, self.sampler.order()) if cfg.class_weights == "balanced" else (1.0, 1.0)
        self.weights = torch.tensor(weights, device=self.device)
        holding = CropDataset(task.manifest, task.rows["validation"], cfg.image_size, "none")
        mine = [(i, 0) for i in range(world.rank, len(holding), world.size)]
        self.holding = loader(holding, mine, 2 * cfg.batch_size, cfg.loader_workers, pinned)

    def _show_as(self, stage: Stage) -> None:
        """Training crops in the size and the augmentation of a phase from here on; the order in which they come stays."""
        cfg, task = self.cfg, self.task
        crops = CropDataset(task.manifest, task.rows["train"], stage.image_size, stage.augment, cfg.blend_share)
        self.fitting = loader(crops, self.sampler, cfg.batch_size, cfg.loader_workers, self.device.type == "cuda")

    # ---- phases and epochs -------------------------------------------------------------------------------------------

    def run(self, on_epoch: OnEpoch | None = None) -> Place:
        """All phases.

        Args:
            on_epoch: Called after each epoch with its number (from 1) and its validation metrics; what it raises ends the
                run.

        Returns:
            Where the run stands at its end, with the best epoch.

        Raises:
            DataError: The loss is no number any more.
            ResourceError: Out of memory with a single crop.
        """
        while self.place.stage < len(self.stages):
            stage = self.stages[self.place.stage]
            self._enter(stage)
            while self.place.stage_epoch < stage.epochs and not self._stalled():
                self._epoch(stage, on_epoch)
            self.place.stage, self.place.stage_epoch, self.place.since_best = self.place.stage + 1, 0, 0
        if self.log is not None:
            self.log.close()
            forget_state(self.task.folder)
        return self.place

    def _ended(self, stage: Stage) -> bool:
        """Whether nothing follows this epoch."""
        return self.place.stage + 1 == len(self.stages) and (self.place.stage_epoch == stage.epochs or self._stalled())

    def _stalled(self) -> bool:
        return bool(self.cfg.early_stop) and self.place.since_best >= self.cfg.early_stop

    def _enter(self, stage: Stage) -> None:
        """Begins a phase, or goes on in the one that a kill interrupted."""
        set_free(self.network, stage.free)
        self._show_as(stage)
        parameters = learning(self.network)
        self.model = self.world.shared(self.network, self.device)
        self.optimizer = create_optimizer(self.cfg, stage, parameters)
        updates = stage.epochs * math.ceil(self._batches() / self.cfg.accumulate)
        self.schedule = Schedule(self.optimizer, self.cfg, stage, updates)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        if self._state:
            self._restore()
        if len(self.stages) > 1:
            count = sum(p.numel() for p in parameters)
            name = f"phase {self.place.stage + 1} of {len(self.stages)}"
            log.info(
                "%s: %s, %s parameters learn, learning rate %g, %d px",
                *(name, stage.free, f"{count:,}", stage.learning_rate, stage.image_size),
            )

    def _batches(self) -> int:
        """Batches in a whole epoch."""
        return math.ceil(self.sampler.whole / self.cfg.batch_size)

    def _epoch(self, stage: Stage, on_epoch: OnEpoch | None) -> None:
        """One pass over the training crops, a validation, and what follows from it."""
        began = time.perf_counter()
        waited, shown = self._fit_epoch()
        fitted = time.perf_counter() - began
        training = self._training_metrics()
        kept = self._kept()
        self.world.copy_buffers(kept)  # all validate the network that is saved
        validation = self._validate(kept)
        value = goodness(validation, self.cfg.monitor)
        self.place.epoch += 1
        self.place.stage_epoch += 1
        self.place.batch = 0
        self.schedule.after_epoch(value[0])
        self._keep(kept, validation, value)
        self._seen = []
        self.place.seconds += time.perf_counter() - began
        if self.log is not None:
            pace = {
                "images_per_s": round(shown * self.world.size / fitted, 1),
                "loader_share": round(waited / fitted, 3),
            }
            self._tell(stage, training, validation, pace)
        if not self._ended(stage):
            self._save()
        if on_epoch is not None:
            on_epoch(self.place.epoch, validation)

    def _kept(self) -> FaceClassifier:
        """The network that is validated and saved."""
        return self.network if self.ema is None else cast(FaceClassifier, self.ema.module)

    def _fit_epoch(self) -> tuple[float, int]:
        """The rest of the epoch. Returns the seconds spent waiting for crops, and how many were seen."""
        to_training(self.network)
        self.sampler.epoch, self.sampler.skip = self.place.epoch, self.place.batch
        saved, waited, shown = time.monotonic(), 0.0, 0
        whole = self._batches()
        title = f"epoch {self.place.epoch + 1}/{sum(stage.epochs for stage in self.stages)}"
        with tqdm(
            total=whole, initial=self.place.batch, desc=title, unit="batch", disable=self._silent(), leave=False
        ) as bar:
            for window, seconds in self._windows():
                self._update(window)
                self.place.batch += len(window)
                waited += seconds
                shown += sum(len(labels) for _, labels in window)
                bar.update(len(window))
                if self.place.batch // self.cfg.accumulate % CHECK_EVERY == 0:
                    bar.set_postfix(loss=f"{self._check_finite():.3f}", refresh=False)
                if time.monotonic() - saved > 60 * self.cfg.checkpoint_minutes and self.place.batch < whole:
                    self._check_finite()
                    self._save()
                    saved = time.monotonic()
        self._check_finite()
        self.sampler.skip = 0
        return waited, shown

    def _silent(self) -> bool | None:
        return None if self.world.first else True

    def _windows(self) -> Iterator[tuple[list[Batch], float]]:
        """The batches of one update after the other, with the seconds that were spent waiting for them."""
        batches = iter(self.fitting)
        while True:
            began = time.perf_counter()
            window = list(itertools.islice(batches, self.cfg.accumulate))
            if not window:
                return
            yield window, time.perf_counter() - began

    # ---- one update --------------------------------------------------------------------------------------------------

    def _update(self, window: list[Batch]) -> None:
        """Gradients of some batches, and one optimiser step; with less at once after a memory error."""
        seen = None
        while seen is None:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                seen = [self._gradients(*batch, 1 / len(window)) for batch in window]
            except torch.OutOfMemoryError as error:
                self._halve(error)
        self._seen += seen
        if self.cfg.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(learning(self.network), self.cfg.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.after_update()
        if self.ema is not None:
            self.ema.update_parameters(self.network)

    def _gradients(self, images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
        """Adds the gradients of a batch, in parts of `micro` crops. Returns its loss, logits and labels."""
        losses, logits = [], []
        parts = list(zip(images.split(self.place.micro), labels.split(self.place.micro), strict=True))
        for part, truth in parts:
            part_share = share * len(truth) / len(labels)
            loss, scores = self._forward(part, truth)
            self.scaler.scale(loss * part_share).backward()
            losses.append(loss.detach() * (len(truth) / len(labels)))
            logits.append(scores.detach())
        return torch.stack(losses).sum(), torch.cat(logits), labels

    def _forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        images = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        images = in_unit_range(images)
        labels = labels.to(self.device, non_blocking=True)
        with autocast(self.device, self.dtype):
            logits = self.model(images).float()
        smooth = self.cfg.label_smoothing
        weights = self.weights[labels.long()]
        loss = F.binary_cross_entropy_with_logits(logits, labels * (1 - 2 * smooth) + smooth, weights)
        return loss + self.network.head.penalty(self.cfg.head.l2), logits

    def _halve(self, error: Exception) -> None:
        """Sends half as many crops through the network at once: the same update, in more parts."""
        if self.world.size > 1 or self.place.micro == 1:
            advice = "lower train.batch_size" if self.world.size > 1 else "take a smaller model or train.image_size"
            raise ResourceError(f"out of memory with {self.place.micro} crops at once: {advice}") from error
        self.place.micro = -(-self.place.micro // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        log.warning(
            "out of memory: from here on %d crops at once, the gradients of a batch of %d joined",
            self.place.micro,
            self.cfg.batch_size,
        )

    def _check_finite(self) -> float:
        """The loss of the last updates, which must be a number."""
        loss = float(torch.stack([loss for loss, _, _ in self._seen[-CHECK_EVERY * self.cfg.accumulate :]]).mean())
        if not math.isfinite(loss):
            raise DataError(self._diverged("the loss is no number any more"))
        return loss

    def _diverged(self, what: str) -> str:
        kept = f"the weights of epoch {self.place.epoch} are kept in {self.task.folder}"
        return (
            f"{what} in epoch {self.place.epoch + 1}: lower train.learning_rate, or set train.clip_norm=1; "
            f"{kept if self.place.epoch else 'no epoch was finished'}"
        )

    # ---- validation, logs, files -------------------------------------------------------------------------------------

    def _training_metrics(self) -> Metrics:
        """Figures over the crops of this epoch as they were shown: augmented, and while the weights changed."""
        losses = [float(loss) for loss, _, _ in self._seen]
        sizes = [len(labels) for _, _, labels in self._seen]
        scores = torch.sigmoid(torch.cat([logits for _, logits, _ in self._seen]).double()).tolist()
        truth = torch.cat([labels for _, _, labels in self._seen]).int().tolist()
        parts = self.world.gathered((sum(x * n for x, n in zip(losses, sizes, strict=True)), truth, scores))
        truth, scores = [x for part in parts for x in part[1]], [x for part in parts for x in part[2]]
        return {"loss": sum(part[0] for part in parts) / len(truth), **binary_metrics(truth, scores)}

    def _validate(self, network: FaceClassifier) -> Metrics:
        logits, truth = scored(network, self.holding, self.device, self.dtype, self._silent())
        if not bool(torch.isfinite(logits).all()):
            raise DataError(self._diverged("validation gives scores that are no numbers"))
        parts = self.world.gathered((logits, truth))
        return loss_and_metrics(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))

    def _keep(self, network: FaceClassifier, validation: Metrics, value: tuple[float, float]) -> None:
        """Files of the last epoch, of the best, and of those that were asked for."""
        place, folder = self.place, self.task.folder
        best = not place.best_value or value > tuple(place.best_value)
        better = not place.best_value or value[0] > place.best_value[0]  # a better loss alone is no progress
        place.since_best = 0 if better else place.since_best + 1
        if best:
            place.best_epoch, place.best_value, place.best = place.epoch, list(value), validation
        if not self.world.first:
            return
        figures = {**validation, "epoch": place.epoch, "crops": len(self.task.rows["validation"])}
        card = replace(self.task.card, metrics={"validation": figures})
        names = [
            LAST,
            *([MODEL] if best else []),
            *([KEPT.format(place.epoch)] if place.epoch in self.cfg.keep_epochs else []),
        ]
        for name in names:
            save_model(folder / name, network, card)

    def _tell(self, stage: Stage, training: Metrics, validation: Metrics, pace: dict[str, float]) -> None:
        """A row in the logs and a line for the person who waits."""
        place = self.place
        row: dict[str, Any] = {"epoch": place.epoch, "phase": place.stage + 1}
        for split, figures in (("train", training), ("validation", validation)):
            row |= {f"{split}_{name}": None if v is None else round(v, 6) for name, v in figures.items()}
        best = place.epoch == place.best_epoch
        row |= {
            "learning_rate": self.schedule.last_rate,
            **pace,
            "seconds": round(place.seconds, 1),
            "best_so_far": best,
        }
        if self.log is not None:
            self.log.add(row)
        log.info(
            "epoch %d/%d: train loss %.3f, validation loss %s, AUC %s, accuracy %s, %.0f images/s%s",
            place.epoch,
            sum(stage.epochs for stage in self.stages),
            training["loss"],
            *(shown(validation[name]) for name in ("log_loss", "auc", "accuracy")),
            pace["images_per_s"],
            " (best so far)" if best else "",
        )

    def _save(self) -> None:
        """The state from which a killed run goes on."""
        seen = [tuple(x.cpu() for x in batch) for batch in self._seen]
        own = self.world.gathered({"random": torch.get_rng_state(), "cuda": _cuda_random(self.device), "seen": seen})
        if not self.world.first:
            return
        tensors = {
            "fingerprint": self.task.fingerprint,
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "processes": own,
        }
        save_state(self.task.folder, self.place, tensors)

    def _resume(self) -> None:
        """Takes weights and place over from the state; optimiser and random numbers follow with the phase."""
        self.place, self._state = self.world.agreed(lambda: load_state(self.task.folder))
        if self._state["fingerprint"] != self.task.fingerprint:
            raise DataError(f"{self.task.folder} was trained on other data or with another config: train anew")
        if len(self._state["processes"]) != self.world.size:
            count = len(self._state["processes"])
            raise DataError(f"{self.task.folder} was trained by {count} processes, not {self.world.size}: use as many")
        self.network.load_state_dict(self._state["network"])
        if self.ema is not None:
            self.ema.load_state_dict(self._state["ema"])
        log.info("going on after epoch %d, batch %d", self.place.epoch, self.place.batch)

    def _restore(self) -> None:
        state, self._state = self._state, {}
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        own = state["processes"][self.world.rank]
        torch.set_rng_state(own["random"])
        if own["cuda"] is not None:
            torch.cuda.set_rng_state(own["cuda"], self.device)
        self._seen = [(loss.to(self.device), logits.to(self.device), labels) for loss, logits, labels in own["seen"]]


def _cuda_random(device: torch.device) -> Tensor | None:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None
