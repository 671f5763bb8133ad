"""How many plain steps come before the window, and how long that is (RaT-BPTT, section 3; `cctype`)."""

from __future__ import annotations

import torch

from ppodd.config import DistillConfig
from ppodd.distillation.training_state import Position
from ppodd.machine import generator

_PATIENCE = 200  # epochs without a better loss before cctype 1 grows


def steps(config: DistillConfig, position: Position, epoch: int) -> tuple[int, int]:
    """Plain steps and window of a meta-step; random ones are drawn once an epoch (of the stage)."""
    if config.ddtype == "standard":
        return 0, config.window
    draw = generator(config.seed, "curriculum", position.stage, epoch)

    def uniform(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=draw))

    if config.cctype == 0:
        return config.totwindow - config.window, config.window
    if config.cctype == 1:
        return position.curriculum, config.window
    if config.cctype == 2:
        return uniform(config.minwindow, config.totwindow - config.window), config.window
    return 0, uniform(config.window, config.totwindow)


def mean_steps(config: DistillConfig) -> tuple[float, float]:
    """Plain steps and window of a meta-step on average; of cctype 1 those it starts with."""
    if config.ddtype == "standard":
        return 0, config.window
    most = config.totwindow - config.window
    plain = (most, config.minwindow, (config.minwindow + most) / 2, 0)[config.cctype]
    return plain, (config.window + config.totwindow) / 2 if config.cctype == 3 else config.window


def grow(config: DistillConfig, position: Position, epoch: int, loss: float) -> None:
    """cctype 1: another window of plain steps when the held-out loss has not improved for `_PATIENCE` epochs."""
    if loss < position.best_loss:
        position.best_loss, position.best_epoch = loss, epoch
    elif epoch >= position.best_epoch + _PATIENCE:
        position.best_epoch = epoch
        position.curriculum = min(position.curriculum + config.window, config.totwindow - config.window)
