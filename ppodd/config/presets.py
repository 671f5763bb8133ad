"""Named settings. Those without `-small` are the published ones; the small ones are scaled down to run on a CPU."""

from __future__ import annotations

from typing import Any

from ppodd.errors import unknown

# Common to all of PoDD's published settings.
_PUBLISHED: dict[str, Any] = {
    "num_train_eval": 8,
    "ddtype": "curriculum",
    "cctype": 2,
    "arch": "convnet",
    "minwindow": 0,
    "inner_optim": "Adam",
    "outer_optim": "Adam",
    "inner_lr": 0.001,
    "lr": 0.001,
    "syn_strategy": "flip_rotate",
    "real_strategy": "flip_rotate",
    "zca": True,
    "comp_ipc": 1,
    "num_stages": 5,
}

_CIFAR10 = {
    **_PUBLISHED,
    "dataset": "cifar10",
    "poster_width": 153,
    "poster_height": 60,
    "poster_class_num_x": 5,
    "poster_class_num_y": 2,
    "class_area_width": 32,
    "class_area_height": 32,
    "patch_num_x": 16,
    "patch_num_y": 6,
    "distill_batch_size": 96,
    "batch_size": 5000,
    "window": 60,
    "totwindow": 200,
    "epochs": 10000,
    "test_freq": 10,
    "print_freq": 10,
}

_CIFAR100 = {
    **_CIFAR10,
    "dataset": "cifar100",
    "poster_width": 303,
    "poster_height": 303,
    "poster_class_num_x": 10,
    "poster_class_num_y": 10,
    "patch_num_x": 20,
    "patch_num_y": 20,
    "distill_batch_size": 50,
    "batch_size": 2000,
    "window": 100,
    "totwindow": 300,
    "train_y": True,
}

_CUB200 = {
    **_CIFAR100,
    "dataset": "cub-200",
    "poster_width": 610,
    "poster_height": 302,
    "poster_class_num_x": 20,
    "poster_class_num_y": 10,
    "patch_num_x": 60,
    "patch_num_y": 30,
    "distill_batch_size": 200,
    "batch_size": 3000,
    "window": 60,
    "totwindow": 200,
}

_TINY_IMAGENET = {
    **_CUB200,
    "dataset": "tiny-imagenet-200",
    "poster_width": 1211,
    "poster_height": 608,
    "class_area_width": 64,
    "class_area_height": 64,
    "patch_num_x": 40,
    "patch_num_y": 20,
    "distill_batch_size": 30,
    "batch_size": 500,
    "window": 100,
    "totwindow": 300,
    "inner_lr": 0.0005,
    "lr": 0.0005,
}

# Scaled down: a narrower network, short windows, few meta-steps and networks.
_SMALL = {
    "width": 32,
    "window": 10,
    "totwindow": 40,
    "epochs": 10,
    "num_stages": 2,
    "stage_nets": 2,
    "num_train_eval": 2,
    "stage_steps": 100,
    "budgets": (100, 300),
    "print_freq": 1,
}

_DIGITS = {
    **_PUBLISHED,
    "dataset": "digits",
    "zca": False,
    "poster_width": 38,
    "poster_height": 15,
    "poster_class_num_x": 5,
    "poster_class_num_y": 2,
    "class_area_width": 8,
    "class_area_height": 8,
    "patch_num_x": 5,
    "patch_num_y": 2,
    "distill_batch_size": 10,
    "batch_size": 256,
    "width": 32,
    "window": 10,
    "totwindow": 40,
    "inner_lr": 0.005,
    "lr": 0.03,
    "syn_strategy": "rotate",  # a mirrored digit is another sign
    "real_strategy": "rotate",
    "epochs": 60,
    "num_stages": 3,
    "stage_nets": 4,
    "stage_steps": 100,
    "budgets": (50, 100, 200, 300),
}

_DIGITS_SMALL = {
    "width": 16,
    "totwindow": 30,
    "inner_lr": 0.01,
    "epochs": 24,
    "num_stages": 2,
    "stage_nets": 4,
    "stage_steps": 50,
    "num_train_eval": 4,
    "budgets": (50, 100),
}

PRESETS: dict[str, dict[str, Any]] = {
    "digits": _DIGITS,
    "digits-small": {**_DIGITS, **_DIGITS_SMALL},
    "cifar10": _CIFAR10,
    "cifar10-small": {**_CIFAR10, **_SMALL, "batch_size": 1000},
    "cifar100": _CIFAR100,
    "cifar100-small": {**_CIFAR100, **_SMALL, "batch_size": 1000},
    "tiny-imagenet-200": _TINY_IMAGENET,
    "tiny-imagenet-200-small": {**_TINY_IMAGENET, **_SMALL, "batch_size": 200},
    "cub-200": _CUB200,
    "cub-200-small": {**_CUB200, **_SMALL, "distill_batch_size": 100, "batch_size": 1000},
}


def preset(name: str) -> dict[str, Any]:
    """The config values of a preset. Raises `BadInput` for an unknown name."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return dict(PRESETS[name])
