"""C functions compiled for this machine, where it has a compiler, and kept in the cache.

A process that finds no compiler does without them: `--compile on` alone insists. What they compute is the same to
rounding.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from ppodd.errors import BadInput
from ppodd.files import cached

_log = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_name("kernels.c")
_FLAGS = ("-std=c11", "-O3", "-march=native", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
_REAL = {torch.float32: "float", torch.float64: "double"}
_PATIENCE_S = 120

_chosen = "auto"


class Size(ctypes.Structure):
    """Of maps, and how many threads may work on them."""

    _fields_ = [(name, ctypes.c_long) for name in ("images", "height", "width", "channels", "threads")]


def size(maps: torch.Tensor, images: int = 0) -> Size:
    """Of maps `[B, C, h, w]`, or of fewer of them."""
    count, channels, height, width = maps.shape
    return Size(images or count, height, width, channels, torch.get_num_threads())


Function = Callable[..., None]


class Functions:
    """The functions of `kernels.c` for one type of numbers; tensors stand for where their numbers lie."""

    def __init__(self, library: ctypes.CDLL):
        self.forward = _function(library.forward, "maps scale shift eps pooled rstds")
        self.backward = _function(library.backward, "g maps rstds scale shift to_scale to_shift")
        self.forward_along = _function(
            library.forward_along, "both scale_dot scale shift_dot shift eps pooled rstds slopes"
        )
        self.image_inside, self.map_inside = (
            _function(f, "maps tiles") for f in (library.image_inside, library.map_inside)
        )
        self.image_outside, self.map_outside = (
            _function(f, "tiles maps") for f in (library.image_outside, library.map_outside)
        )
        self.backward_along = _function(
            library.backward_along, "g both rstds slopes scale_dot scale shift to_scale to_shift"
        )


def _function(found: Any, names: str) -> Function:
    """Takes a size, then so many tensors; `eps` is a number."""
    found.argtypes = [Size, *(ctypes.c_double if name == "eps" else _Address for name in names.split())]
    found.restype = None
    return cast("Function", found)


class _Address:
    @staticmethod
    def from_param(tensor: torch.Tensor) -> ctypes.c_void_p:
        return ctypes.c_void_p(tensor.data_ptr())


def choose_compiled(choice: str) -> None:
    """Whether this process takes compiled functions: where it can, or not at all.

    Raises:
        BadInput: it is to, and cannot.
    """
    global _chosen
    _chosen = choice
    if choice == "on" and isinstance(why := _compiled(torch.float32), str):
        raise BadInput(f"compile=on: {why}: leave it at auto to do without")


def functions(dtype: torch.dtype) -> Functions | None:
    """Those to use, if any."""
    found = None if _chosen == "off" or dtype not in _REAL else _compiled(dtype)
    return found if isinstance(found, Functions) else None


@functools.cache
def _compiled(dtype: torch.dtype) -> Functions | str:
    """The functions, or why there are none."""
    asked = os.environ.get("CC", "")
    compiler = shlex.split(asked) or [found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))][:1]
    if not compiler:
        return "this machine has no C compiler (cc, gcc, clang or $CC)"
    why = ""
    for parallel in (True, False):  # with the threads of torch, where its library of them can be shared
        try:
            return Functions(ctypes.CDLL(str(_library(compiler, _REAL[dtype], parallel)), mode=os.RTLD_NOW))
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", b"") or str(error).encode()
            last = said.decode(errors="replace").strip().splitlines()[-1:]
            why = " ".join([f"{compiler[0]} makes nothing that runs here:", *last])
            _log.debug("%s", why)
    return why


def _library(compiler: Sequence[str], real: str, parallel: bool) -> Path:
    """The compiled file, made unless it is there for just this machine, compiler and source."""
    flags = [*_FLAGS, f"-DREAL={real}", *(["-fopenmp"] if parallel else [])]
    about = [_SOURCE.read_text(), *compiler, *flags, platform.machine(), platform.processor(), _instructions()]
    place = cached(f"kernels-{hashlib.sha256(chr(0).join(about).encode()).hexdigest()[:16]}.so")
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix="kernels-") as folder:
        made, whole = f"{folder}/kernels.o", f"{folder}/kernels.so"
        # not linked with the compiler's own library of threads: torch has loaded one
        for command in ([*flags, "-c", str(_SOURCE), "-o", made], ["-shared", made, "-o", whole, "-lm"]):
            subprocess.run([*compiler, *command], check=True, capture_output=True, timeout=_PATIENCE_S)
        os.replace(whole, place)
    return place


def _instructions() -> str:
    """The processor's instruction sets, as far as the system says: a cache may serve several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
