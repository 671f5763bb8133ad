"""Reduced precision of convolutions, by choice: of plain steps, of the window and of the real batch, each apart.

`bf16` rounds what goes into a convolution, and what comes out of it, to 8 bits of mantissa; `tf32` rounds what goes in
to 11 bits, within a GPU. Sums are taken in float32, and all that is no convolution stays in it. Light: needs no torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ppodd.errors import BadInput, unknown
from ppodd.machine import instructions

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "tf32", "bf16")
FLOAT32, TF32, BF16 = PRECISIONS
_BF16_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16", "bf16": "Arm's BF16"}
_CAPABILITY = 8, 0  # of NVIDIA GPUs that have either


class Precision(NamedTuple):
    """Of the convolutions of a meta-step's parts."""

    plain: str = FLOAT32
    window: str = FLOAT32
    real: str = FLOAT32

    @classmethod
    def read(cls, text: str) -> Precision:
        """`bf16` for all parts, or `plain=bf16,real=tf32` for some. Raises `BadInput`."""
        if "=" not in text:
            return cls(*[_known(text)] * len(cls._fields))
        parts: dict[str, str] = {}
        for word in text.split(","):
            part, _, precision = (piece.strip() for piece in word.partition("="))
            if part not in cls._fields:
                raise unknown("part of precision", part, cls._fields)
            if part in parts:
                raise BadInput(f"precision={text}: {part} appears twice: name each part once")
            parts[part] = _known(precision)
        return cls(**parts)

    def __str__(self) -> str:
        if len(set(self)) == 1:
            return self.plain
        return ",".join(f"{part}={kind}" for part, kind in self._asdict().items() if kind != FLOAT32)

    def check_device(self, device: torch.device) -> None:
        """Raise `BadInput` with what the device lacks."""
        for kind in set(self) - {FLOAT32}:
            if why := _lacks(kind, device):
                raise BadInput(f"precision={self}: {why}")


FULL = Precision()


def _known(precision: str) -> str:
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    return precision


def _lacks(kind: str, device: torch.device) -> str:
    """What a device lacks for it, and what to do; empty where it lacks nothing."""
    if device.type == "cuda":
        import torch

        has = torch.cuda.get_device_capability(device)
        of = f"{torch.cuda.get_device_name(device)} has CUDA capability {has[0]}.{has[1]}"
        return "" if has >= _CAPABILITY else f"{of}, needed is 8.0 or later: leave it at {FLOAT32}"
    if kind == TF32:
        return f"a {device.type.upper()} has no TF32, which a GPU of CUDA capability 8.0 has: leave it at {FLOAT32}"
    if instructions() & _BF16_INSTRUCTIONS.keys():
        return ""
    return f"this CPU has none of {', '.join(_BF16_INSTRUCTIONS.values())}: leave it at {FLOAT32}"


@contextlib.contextmanager
def convolutions_in(precision: str | None, device: torch.device) -> Iterator[None]:
    """Inside, a GPU's convolutions of float32 numbers are rounded to TF32 if that is the precision, else not.

    Where none is given, they are as torch has them: rounded, unless its user says otherwise.
    """
    import torch

    if precision is None or device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = precision == TF32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
