"""Optimisers and learning rates over time."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau

from dfpipe.config import TrainConfig
from dfpipe.errors import choose
from dfpipe.train.stages import Stage

Parameters = Sequence[torch.nn.Parameter]
MOMENTUM = 0.9  # Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013

OPTIMIZERS: dict[str, Callable[[Parameters, float, float], Optimizer]] = {
    "adamw": lambda parameters, rate, decay: AdamW(parameters, rate, weight_decay=decay),
    "adam": lambda parameters, rate, decay: Adam(parameters, rate, weight_decay=decay),
    "sgd": lambda parameters, rate, decay: SGD(parameters, rate, momentum=MOMENTUM, weight_decay=decay, nesterov=True),
}


def create_optimizer(config: TrainConfig, stage: Stage, parameters: Parameters) -> Optimizer:
    """The optimiser of one phase.

    Raises:
        ConfigError: Unknown optimiser.
    """
    chosen = choose(OPTIMIZERS, config.optimizer, "train.optimizer")
    return chosen(parameters, stage.learning_rate, config.weight_decay)


def _one_cycle(optimizer: Optimizer, config: TrainConfig, stage: Stage, updates: int) -> Any:
    return OneCycleLR(optimizer, stage.learning_rate, total_steps=updates)


def _cosine(optimizer: Optimizer, config: TrainConfig, stage: Stage, updates: int) -> Any:
    return CosineAnnealingLR(optimizer, updates, config.min_learning_rate)


def _plateau(optimizer: Optimizer, config: TrainConfig, stage: Stage, updates: int) -> Any:
    return ReduceLROnPlateau(
        optimizer, "max", config.plateau_factor, config.plateau_patience, threshold=0.0, min_lr=config.min_learning_rate
    )


def _constant(optimizer: Optimizer, config: TrainConfig, stage: Stage, updates: int) -> Any:
    return ConstantLR(optimizer, 1.0)


SCHEDULES: dict[str, Callable[[Optimizer, TrainConfig, Stage, int], Any]] = {
    "one_cycle": _one_cycle,
    "cosine": _cosine,
    "plateau": _plateau,
    "constant": _constant,
}


class Schedule:
    """The learning rate of one phase.

    Args:
        optimizer: Whose rate it is.
        config: Settings of the training.
        stage: The phase.
        updates: Optimiser steps in the phase, if it is not ended early.

    Raises:
        ConfigError: Unknown schedule.
    """

    def __init__(self, optimizer: Optimizer, config: TrainConfig, stage: Stage, updates: int) -> None:
        make = choose(SCHEDULES, stage.schedule, "train.schedule")
        self._optimizer = optimizer
        self._inner = make(optimizer, config, stage, updates)
        self._by_epoch = isinstance(self._inner, ReduceLROnPlateau)
        self.last_rate = self._rate()  # of the last update, or of the first to come

    def after_update(self) -> None:
        """To be called after every optimiser step."""
        self.last_rate = self._rate()
        if not self._by_epoch:
            self._inner.step()

    def _rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def after_epoch(self, goodness: float) -> None:
        """To be called after every epoch, with what validation has most of when it is best."""
        if self._by_epoch and math.isfinite(goodness):
            self._inner.step(goodness)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        state: dict[str, Any] = self._inner.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state_dict`."""
        self._inner.load_state_dict(state)
