"""What a distillation computes, counted instead of timed: equal counts are equal work, whatever the machine's load."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ppodd.config import PRESETS, DistillConfig
from ppodd.datasets import Spec
from ppodd.machine import cores

if TYPE_CHECKING:
    import torch

_CORE_FLOPS, _META_STEP_S = 40e9, 0.2  # of a core of a CPU, about; what a meta-step takes where operations are small
_LONG_H = 1.0
_GRADIENT = 3  # forward passes that a gradient is worth: the pass, and products to weights and to inputs
_DIFFERENTIATED = 3  # gradients that a step of the window is worth: its own, and its products with second derivatives


def distillation_flops(config: DistillConfig, spec: Spec, meta_steps: int, stages: int) -> float:
    """Multiplications and additions of `meta_steps` meta-steps and the stage accuracies of `stages` stages."""
    from ppodd.distillation import curriculum

    plain, window = curriculum.mean_steps(config)
    meta_step = config.distill_batch_size * (plain + _DIFFERENTIATED * window) + config.batch_size
    accuracy = config.stage_nets * config.stage_steps * config.distill_batch_size
    gradients = meta_steps * meta_step + stages * accuracy
    return gradients * _GRADIENT * _image_flops(config.arch, spec, config.width)


def cpu_hours(config: DistillConfig, spec: Spec, images: int, beside: int = 1) -> float:
    """What its meta-steps take on this machine's CPU, about, on a training set of so many images.

    Args:
        beside: distillations that share the CPU: where operations are small, each goes on as fast as alone.
    """
    if not (meta_steps := config.meta_steps(images)):
        return 0.0
    counted = distillation_flops(config, spec, meta_steps, config.num_stages) / (cores() * _CORE_FLOPS)
    return max(counted, meta_steps * _META_STEP_S / beside) / 3600


def warning(config: DistillConfig, spec: Spec, images: int, device: torch.device) -> str:
    """That it takes hours or days on this CPU, and what to do; empty where it does not.

    Args:
        images: of the training set.
    """
    time = long_time(cpu_hours(config, spec, images)) if device.type == "cpu" else ""
    if not time:
        return ""
    small = f"{config.dataset}-small"
    way_out = f"; --preset {small} is scaled down to a CPU" if small in PRESETS else ""
    takes = f"{config.meta_steps(images):,} meta-steps take {time}"
    return f"note: {takes} on the CPU of this machine: they want a GPU{way_out}"


def long_time(hours: float) -> str:
    """Hours, or days, in words; empty where it is not long."""
    if hours < _LONG_H:
        return ""
    return f"about {hours:.0f} hours" if hours < 48 else f"about {hours / 24:,.0f} days"


@lru_cache
def _image_flops(arch: str, spec: Spec, width: int) -> int:
    """Of one image's way through the network."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ppodd.training import fresh_network

    device = torch.device("cpu")
    network = fresh_network(arch, spec, width, 0, device)
    images = torch.zeros(2, spec.channels, spec.height, spec.width)  # batch statistics want two
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(network.theta, images)
    return counter.get_total_flops() // 2
