"""How many plain steps come before the window, and how long that is (RaT-BPTT, section 3; `cctype`)."""

from __future__ import annotations

import torch

from ppodd.config import DistillConfig
from ppodd.distillation.training_state import TrainingState
from ppodd.machine import generator

_PATIENCE = 200  # epochs without a better loss before cctype 1 grows


def steps(config: DistillConfig, state: TrainingState, epoch: int) -> tuple[int, int]:
    """Plain steps and window of a meta-step; random ones are drawn once an epoch (of the stage)."""
    if config.ddtype == "standard":
        return 0, config.window
    draw = generator(config.seed, "curriculum", state.stage, epoch)

    def uniform(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=draw))

    if config.cctype == 0:
        return config.totwindow - config.window, config.window
    if config.cctype == 1:
        return state.curriculum, config.window
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


def grow(config: DistillConfig, state: TrainingState, epoch: int, loss: float) -> None:
    """Under `cctype` 1, one more window of plain steps once the held-out loss has not improved for a few epochs."""
    if loss < state.best_loss:
        state.best_loss, state.best_epoch = loss, epoch
    elif epoch >= state.best_epoch + _PATIENCE:
        state.best_epoch = epoch
        state.curriculum = min(state.curriculum + config.window, config.totwindow - config.window)
