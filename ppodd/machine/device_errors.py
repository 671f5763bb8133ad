"""Out-of-memory errors and lost devices, distinguished from other errors of a computation."""

from __future__ import annotations

import enum
import sys

_CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, hipErrorOutOfMemory


class DeviceError(enum.Enum):
    """Why a device could not compute: it has too little memory, or this process has no device any more."""

    OUT_OF_MEMORY = "out of memory"
    LOST = "lost device"


def device_error(error: BaseException) -> DeviceError | None:
    """What kind of a device's error this is; `None` for every other error."""
    if isinstance(error, MemoryError):
        return DeviceError.OUT_OF_MEMORY
    torch = sys.modules.get("torch")  # which raised it, if it is loaded
    if torch is None or not isinstance(error, RuntimeError):
        return None
    if isinstance(error, torch.OutOfMemoryError):
        return DeviceError.OUT_OF_MEMORY
    if hasattr(torch, "AcceleratorError") and isinstance(error, torch.AcceleratorError):
        wants_memory = getattr(error, "error_code", None) == _CUDA_OUT_OF_MEMORY
        return DeviceError.OUT_OF_MEMORY if wants_memory else DeviceError.LOST
    return _by_text(str(error)) if type(error) is RuntimeError else None


def _by_text(said: str) -> DeviceError | None:
    """The kind of a plain `RuntimeError` of torch, which has no type for it: by the words of torch's C++ source.

    A CPU's allocator, cuBLAS and cuDNN say their want of memory so, and before torch 2.8 CUDA everything.
    """
    if any(words in said for words in ("can't allocate memory", "out of memory", "ALLOC_FAILED")):
        return DeviceError.OUT_OF_MEMORY
    return DeviceError.LOST if "CUDA error" in said else None
