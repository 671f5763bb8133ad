"""Which device a run uses."""

from __future__ import annotations

import torch

from ppodd.errors import BadInput


def resolve_device(name: str) -> torch.device:
    """The device called `name`; `auto` is the first GPU, else the CPU.

    Raises:
        BadInput: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f"unknown device {name!r} (accepted: auto, cpu, cuda, cuda:0, …)") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadInput(
            f"device {name!r}: this machine offers {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    if device.type not in ("cpu", "cuda"):
        raise BadInput(f"device {name!r} is not supported (accepted: auto, cpu, cuda, cuda:0, …)")
    return device
