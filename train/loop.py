"""The room's verb: fit a classifier to the crops of a manifest and keep the epoch that validates best."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfpipe.config import Config, TrainConfig, load_config, to_mapping, to_yaml
from dfpipe.errors import DataError, choose
from dfpipe.files import disk_errors
from dfpipe.preprocess.manifest import read_manifest
from dfpipe.preprocess.mirror import here, source_of
from dfpipe.store import place
from dfpipe.train.balance import BALANCES
from dfpipe.train.card import ModelCard
from dfpipe.train.checkpoint import STATE, has_state
from dfpipe.train.dataset import CropDataset
from dfpipe.train.devices import pick_device, precision_of
from dfpipe.train.fit import MODEL, Fit, OnEpoch, Task
from dfpipe.train.memory import check_fits, free_bytes, keep_freed_memory
from dfpipe.train.models import FaceClassifier, create_model
from dfpipe.train.openmodel import Model
from dfpipe.train.optim import OPTIMIZERS, SCHEDULES
from dfpipe.train.preview import show_batch
from dfpipe.train.rows import Rows, describe, faces_of, fingerprint, training_rows
from dfpipe.train.runlog import DESCRIPTION, describe_run, hardware, read_description, versions
from dfpipe.train.stages import set_free, stages_of
from dfpipe.train.start import copy_weights, origin_of, start_of, trained_on_with, unseen, warn_of_framing
from dfpipe.train.transforms import AUGMENTATIONS
from dfpipe.train.validate import MONITORS
from dfpipe.train.world import World, joined, launch

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
CHOICES: dict[str, Mapping[str, Any]] = {  # setting -> what it may be
    "augment": AUGMENTATIONS,
    "balance": BALANCES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "monitor": MONITORS,
}


@dataclass(frozen=True)
class Trained:
    """How a training ended."""

    model: Path
    epochs: int  # that were run
    best_epoch: int  # from 1
    validation: dict[str, float | None]  # metrics of the best epoch
    stopped_early: bool
    seconds: float


def train(
    config: Config,
    data: Path,
    out: Path,
    recipe: str = "default",
    device_name: str = "auto",
    *,
    rows: Rows | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Trains one model.

    Started by torchrun, all its processes train it together, each with `train.batch_size` crops in a step.

    Args:
        config: Settings; `train` and `seed` matter here.
        data: Folder of extracted faces.
        out: Folder of runs; this one gets a folder of its own in it, named by time and recipe.
        recipe: Name of the config, for the name of the run.
        device_name: See `pick_device`.
        rows: Rows of the manifest to train and to validate on, instead of its own splits.
        on_epoch: See `Fit.run`.

    Returns:
        Where the model file is, and the validation metrics of the epoch that it holds.

    Raises:
        SourceError: No manifest there.
        DataError: Nothing to train or validate on, one label missing, crops missing or damaged, the loss is no number any
            more.
        LeakError: A source group on both sides.
        ConfigError: An unknown choice, or weights that cannot be had.
        ResourceError: It does not fit into memory.
    """
    with joined(pick_device(device_name)) as (world, device):
        task, network = world.together(lambda: _prepare(config, data, device, world, rows))
        _check_alike(task, world)
        alone = rows is not None or on_epoch is not None  # a fold or a trial: whatever began it begins it anew
        began = world.agreed(lambda: None if alone else _began(out, task))
        ended = world.agreed(lambda: _ended(began, config))
        if ended is not None:
            return ended
        folder = began or world.agreed(lambda: _begin(out, recipe, task, data, device, world))
        resume = began is not None
        return _fit(_in_folder(task, folder), network, device, world, on_epoch, resume=resume, resumable=rows is None)


def resume(folder: Path, device_name: str = "auto", on_epoch: OnEpoch | None = None) -> Trained:
    """Goes on with a run that was killed or interrupted: on a CPU, the same weights come out as without the break.

    Args:
        folder: Of the run. Its config and its data are used.
        device_name: See `pick_device`.
        on_epoch: See `Fit.run`.

    Returns:
        As `train`.

    Raises:
        DataError: No run there, one that has ended, or whose data or config changed.
    """
    with joined(pick_device(device_name)) as (world, device), ExitStack() as stack:
        config, named, origin = world.agreed(lambda: _known(folder))
        data = world.together(lambda: stack.enter_context(here(place(named))))
        task, network = world.together(lambda: _prepare(config, data, device, world, None, origin))
        _check_alike(task, world)
        return _fit(_in_folder(task, folder), network, device, world, on_epoch, resume=True)


def show(config: Config, data: Path, out: Path) -> None:
    """Draws what the network will see of some crops, before anything is trained.

    Args:
        config: Settings; augmentation, input size and seed matter here.
        data: Folder of extracted faces.
        out: The PNG.

    Raises:
        SourceError: No manifest there.
        DataError: Nothing to train on.
        ConfigError: Unknown augmentation.
    """
    cfg = config.train
    choose(AUGMENTATIONS, cfg.augment, "train.augment")
    manifest = read_manifest(data)
    rows = training_rows(manifest)["train"]
    show_batch(CropDataset(manifest, rows, cfg.image_size, cfg.augment, cfg.blend_share), out, config.seed)


def first_process() -> bool:
    """Whether this process is the one that tells, among those that torchrun started, if it did."""
    return int(os.environ.get("RANK", "0")) == 0


def _known(folder: Path) -> tuple[Config, str, str]:
    """Config, data, and origin of the first weights of a run that can be gone on with."""
    known = read_description(folder)
    if not has_state(folder) or "data" not in known:
        why = (
            f"the run has ended; its model is {folder / MODEL}"
            if _has_ended(folder, known)
            else f"no {STATE} was saved there, so there is nothing to go on from"
        )
        raise DataError(f"{folder} cannot be resumed: {why}")
    origin = str(known["training_data"]["initial_weights"])
    return load_config(str(folder / CONFIG)), str(known["data"]), origin


def _began(out: Path, task: Task) -> Path | None:
    """The run that these processes were at before torchrun started them again, if it has saved a state or has ended."""
    if not launch():
        return None
    same = {"launch": launch(), "fingerprint": task.fingerprint}
    for folder in sorted((path.parent for path in out.glob(f"*/{DESCRIPTION}")), reverse=True):
        known = read_description(folder)
        if same.items() <= known.items() and (has_state(folder) or _has_ended(folder, known)):
            return folder
    return None


def _has_ended(folder: Path, known: Mapping[str, Any]) -> bool:
    return (folder / MODEL).is_file() and bool(known.get("ended"))


def _ended(folder: Path | None, config: Config) -> Trained | None:
    """How a run ended, if it did: of several processes one may be lost when all is done."""
    known = read_description(folder) if folder is not None else {}
    if folder is None or not _has_ended(folder, known):
        return None
    log.info("%s has ended under the same --rdzv-id: nothing is left to do", folder)
    planned = sum(stage.epochs for stage in stages_of(config.train))
    epochs = int(known["epochs"])
    return Trained(
        folder / MODEL, epochs, known["best_epoch"], known["validation"], epochs < planned, float(known["seconds"])
    )


def _begin(out: Path, recipe: str, task: Task, data: Path, device: torch.device, world: World) -> Path:
    """A new run folder that says what it is."""
    folder = run_folder(out, recipe)
    (folder / CONFIG).write_text(to_yaml(task.config), encoding="utf-8")
    describe_run(folder, _description(task, recipe, data, device, world))
    return folder


def _check_alike(task: Task, world: World) -> None:
    """Refuses processes that would train something else than the first."""
    if world.size == 1:
        return
    data = fingerprint(task.manifest, task.rows)
    releases = "\n".join(f"{name} {version}" for name, version in versions().items())
    world.check_alike({"crops": data, "settings": _deciding(task.config), "versions of packages": releases})


def _prepare(
    config: Config, data: Path, device: torch.device, world: World, rows: Rows | None, origin: str = ""
) -> tuple[Task, FaceClassifier]:
    """Checks everything that can be checked before the first epoch.

    With an `origin`, where a resumed run's first weights came from, none are loaded: those of its state follow.
    """
    cfg = config.train
    for name, table in CHOICES.items():
        choose(table, getattr(cfg, name), f"train.{name}")
    precision_of(device, cfg.precision)
    manifest = read_manifest(data)
    chosen = training_rows(manifest, rows)
    faces = faces_of(manifest, chosen["train"])
    if start := start_of(cfg):
        warn_of_framing(start, faces)
        chosen["validation"] = unseen(start, manifest, chosen["validation"])
    told = describe(manifest, chosen)
    if start:
        told["trained_on"] = trained_on_with(start, told["trained_on"])
    torch.manual_seed(config.seed)
    network, first = _first_weights(cfg, start, loaded=not origin)
    origin = origin or first
    # A GPU's memory errors are met as they come, by smaller parts; a CPU's end in a kill without a word.
    free = (free_bytes(device) or 0) // world.size or None if device.type == "cpu" else None
    for stage in stages_of(cfg):
        choose(SCHEDULES, stage.schedule, "train.stages: schedule")
        choose(AUGMENTATIONS, stage.augment, "train.stages: augment")
        set_free(network, stage.free)
        check_fits(network, stage.image_size, cfg.batch_size, free)
    torch.manual_seed(config.seed + 1 + world.rank)  # dropout differs between processes
    several = f", {world.size} processes x {cfg.batch_size} crops a step" if world.size > 1 else ""
    if world.first:
        log.info("%s on %s%s, starting from %s", cfg.model, device, several, origin)
    card = ModelCard(
        name="",
        architecture=cfg.model,
        image_size=cfg.image_size,
        mean=_triple(network.mean),
        std=_triple(network.std),
        faces=faces,
        head=cfg.head,
        data={**told, "initial_weights": origin},
        config=to_mapping(config),
    )
    print_ = hashlib.sha256(f"{fingerprint(manifest, chosen)}\n{_deciding(config)}".encode()).hexdigest()
    return Task(config, manifest, chosen, card, Path(), print_), network


def _first_weights(cfg: TrainConfig, start: Model | None, loaded: bool) -> tuple[FaceClassifier, str]:
    """The network before the first step, and where its weights come from; random ones where none are to be loaded."""
    network, origin = create_model(replace(cfg, pretrained="none") if start or not loaded else cfg)
    if start is None:
        return network, origin
    if loaded:
        copy_weights(start, network)
    return network, origin_of(start)


def _deciding(config: Config) -> str:
    """The settings that decide what comes out of a training; how many processes read crops does not."""
    values = to_mapping(config.train)
    for name in ("loader_workers", "checkpoint_minutes", "weights_dir"):
        values.pop(name)
    return json.dumps([config.seed, values])


def _in_folder(task: Task, folder: Path) -> Task:
    return replace(task, folder=folder, card=replace(task.card, name=folder.name))


def _description(task: Task, recipe: str, data: Path, device: torch.device, world: World) -> dict[str, Any]:
    """What run.json says from the start."""
    return {
        "recipe": recipe,
        "data": source_of(data.resolve()),
        "seed": task.config.seed,
        "device": hardware(device),
        "processes": world.size,
        "launch": launch(),
        "fingerprint": task.fingerprint,
        "versions": versions(),
        "training_data": {key: value for key, value in task.card.data.items() if key != "trained_on"},
    }


def _fit(
    task: Task,
    network: FaceClassifier,
    device: torch.device,
    world: World,
    on_epoch: OnEpoch | None,
    *,
    resume: bool,
    resumable: bool = True,
) -> Trained:
    start = time.perf_counter()
    if device.type == "cpu":
        keep_freed_memory()
    fit = Fit(task, network, device, world, resume=resume)
    with _told(task.folder, resumable and world.first):
        place = fit.run(on_epoch)
    planned = sum(stage.epochs for stage in fit.stages)
    trained = Trained(
        task.folder / MODEL,
        place.epoch,
        place.best_epoch,
        place.best,
        place.epoch < planned,
        time.perf_counter() - start,
    )
    if world.first:
        ended = {
            "epochs": place.epoch,
            "best_epoch": place.best_epoch,
            "validation": place.best,
            "seconds": round(place.seconds, 1),
        }
        describe_run(task.folder, {**ended, "ended": True})
    return trained


@contextmanager
def _told(folder: Path, resumable: bool) -> Iterator[None]:
    """Says how to go on when a run is interrupted, or another process is lost, which torch tells as a RuntimeError.

    One fold or one trial is begun anew by what began it.
    """
    try:
        yield
    except (KeyboardInterrupt, RuntimeError):
        if resumable and has_state(folder):
            log.warning("to go on from the last saved state: dfpipe train --resume %s", folder)
        raise


def _triple(buffer: Tensor) -> tuple[float, float, float]:
    r, g, b = (round(x, 6) for x in buffer.flatten().tolist())
    return r, g, b


def run_folder(out: Path, recipe: str) -> Path:
    """Makes a new folder named by time and recipe.

    Raises:
        UsageError: `out` cannot be written.
        DataError: Too many of that name.
    """
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
    raise DataError(f"cannot make a new run folder in {out}: choose another --out")
