"""A running mean of the weights, which validates better and more evenly than the last ones.

Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30, 1992.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

WARMUP = 10  # the mean starts short and grows to its full length: decay = (1 + n) / (10 + n) at first


def running_mean(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of a network whose `update_parameters` moves it towards the network's current weights.

    Args:
        network: To be followed.
        decay: Share of the old mean that stays at an update, in 0..1.
    """
    return AveragedModel(network, multi_avg_fn=mover(decay))


def mover(decay: float) -> Callable[[Any, Any, Any], None]:
    """Moves the running mean of the weights towards the current ones, quickly at first."""

    @torch.no_grad()
    def update(means: Any, currents: Any, updates: Any) -> None:
        count = int(updates)
        step = 1 - min(decay, (1 + count) / (WARMUP + count))
        torch._foreach_lerp_(means, currents, step)

    return update
