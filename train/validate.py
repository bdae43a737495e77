"""How good a network is on labelled crops, and which of two epochs is better."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from dfpipe.errors import choose
from dfpipe.train.devices import autocast
from dfpipe.train.metrics import binary_metrics
from dfpipe.train.modelfile import Network

Metrics = dict[str, float | None]
Batch = tuple[Tensor, Tensor]

MONITORS: dict[str, Callable[[Metrics], float | None]] = {  # more is better
    "auc": lambda m: m["auc"],
    "loss": lambda m: None if m["log_loss"] is None else -m["log_loss"],
    "accuracy": lambda m: m["accuracy"],
    "f1": lambda m: m["f1"],
}


@torch.inference_mode()
def scored(
    network: Network,
    batches: DataLoader[Batch],
    device: torch.device,
    dtype: torch.dtype | None = None,
    silent: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits and labels of labelled crops: two float64 tensors of (N,) on the CPU."""
    network.eval()
    logits: list[Tensor] = []
    truth: list[Tensor] = []
    for images, labels in tqdm(batches, desc="validate", unit="batch", disable=silent, leave=False):
        with autocast(device, dtype):
            scores = network(images.to(device, non_blocking=True, memory_format=torch.channels_last))
        logits.append(scores.double().cpu())
        truth.append(labels.double())
    empty = torch.zeros(0, dtype=torch.float64)
    return torch.cat(logits or [empty]), torch.cat(truth or [empty])


def loss_and_metrics(logits: Tensor, truth: Tensor) -> Metrics:
    """Mean cross-entropy of logits, and `binary_metrics` of their probabilities."""
    loss = float(F.binary_cross_entropy_with_logits(logits, truth)) if len(truth) else None
    return {"loss": loss, **binary_metrics(truth.int().tolist(), torch.sigmoid(logits).tolist())}


def goodness(validation: Metrics, monitor: str) -> tuple[float, float]:
    """What the best epoch has most of: the monitored metric, and the loss between equals.

    Where the metric is undefined, because validation holds one label only, the loss alone counts.

    Raises:
        ConfigError: Unknown monitor.
    """
    value = choose(MONITORS, monitor, "train.monitor")(validation)
    loss = validation["log_loss"]
    by_loss = -loss if loss is not None and math.isfinite(loss) else -math.inf
    return (value if value is not None else by_loss, by_loss)


def shown(value: float | None) -> str:
    """A metric for reading."""
    return "undefined" if value is None else f"{value:.3f}"
