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
from typing import cast

import torch

from ppodd.errors import BadInput
from ppodd.files import cached
from ppodd.machine import instructions

_log = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_name("kernels.c")
_FLAGS = ("-std=c11", "-O3", "-march=native", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
_REAL = {torch.float32: "float", torch.float64: "double"}
_PATIENCE_S = 120
_CPU = torch.device("cpu")

_chosen = "auto"


class Size(ctypes.Structure):
    """Of maps, and how many threads may work on them."""

    _fields_ = [(name, ctypes.c_long) for name in ("images", "height", "width", "channels", "groups", "threads")]


def size(maps: torch.Tensor, images: int = 0) -> Size:
    """Of maps `[B, C, h, w]`, or of fewer of them."""
    count, channels, height, width = maps.shape
    return Size(images or count, height, width, channels, 1, torch.get_num_threads())


Function = Callable[..., None]


class FewChannelInput(ctypes.Structure):
    """Of a convolution of few channels: images with their padding."""

    _fields_ = [
        (name, ctypes.c_long)
        for name in ("images", "height", "width", "groups", "channels", "out", "padding", "threads")
    ]


class Small(ctypes.Structure):
    """Of a convolution of small maps; with weights from last to first, if they are mirrored."""

    _fields_ = [
        (name, ctypes.c_long)
        for name in ("images", "height", "width", "groups", "channels", "out", "mirrored", "threads")
    ]


class Narrow(ctypes.Structure):
    """Of products of narrow matrices, `[batch, rows, channels]` by weights, which may be mirrored; or added to."""

    _fields_ = [
        (name, ctypes.c_long)
        for name in ("batch", "rows", "from_channels", "to_channels", "from_", "to", "mirrored", "adds", "threads")
    ]


class Head(ctypes.Structure):
    """Of the classifiers of networks side by side, whose parameters are `apart` from each other."""

    _fields_ = [
        (name, ctypes.c_long)
        for name in (
            "images", "pixels", "groups", "channels", "classes", "apart", "weights_apart", "biases_apart", "threads"
        )
    ]  # fmt: skip


class Net(ctypes.Structure):
    """Of whole ConvNets side by side, and the images that they are given, so many of which go through at once."""

    MOST_BLOCKS = 6
    Widths = ctypes.c_long * MOST_BLOCKS
    _fields_ = [
        *(
            (name, ctypes.c_long)
            for name in (
                "images", "at_once", "height", "width", "groups", "channels", "classes", "padding", "blocks",
                "parameters", "threads",
            )
        ),
        ("widths", Widths),
        ("eps", ctypes.c_double),
    ]  # fmt: skip


class Adam(ctypes.Structure):
    """Of an optimiser's state, and its constants."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("rows", "parameters")),
        *((name, ctypes.c_double) for name in ("beta1", "beta2", "eps", "root")),
    ]


class Functions:
    """The functions of `kernels.c` for one type of numbers; tensors stand for where their numbers lie.

    They raise `MemoryError`.
    """

    def __init__(self, library: ctypes.CDLL):
        def function(name: str, takes: str, size: type[ctypes.Structure] = Size) -> Function:
            """Takes a size, then so many tensors; `eps` is a number."""
            found = getattr(library, name)
            found.argtypes = [size, *(ctypes.c_double if one == "eps" else _Address for one in takes.split())]
            found.restype, found.errcheck = None, checked
            return cast("Function", found)

        wanting = ctypes.c_int.in_dll(library, "out_of_memory")

        def checked(*called: object) -> None:
            if wanting.value:
                wanting.value = 0
                raise MemoryError("no room for what a compiled function computes")

        self.lanes = int(library.lanes())  # of a vector: products that go by whole ones leave none out
        self.forward = function("forward", "maps scale shift eps pooled rstds")
        self.backward = function("backward", "g maps rstds scale shift to_scale to_shift")
        self.forward_along = function("forward_along", "both scale_dot scale shift_dot shift eps pooled rstds slopes")
        self.backward_along = function("backward_along", "g both rstds slopes scale_dot scale shift to_scale to_shift")
        self.image_inside = function("image_inside", "image inside")
        self.image_outside = function("image_outside", "inside image")
        self.map_inside = function("map_inside", "map inside")
        self.map_outside = function("map_outside", "inside map")
        self.adam = function("adam", "first second gradient rate bias theta to_theta to_first to_second", Adam)
        self.adam_cotangents = function(
            "adam_cotangents",
            "first second gradient rate bias theta_bar first_bar second_bar to_first to_second to_gradient to_rate",
            Adam,
        )
        self.head = function("head", "x weights biases labels losses to_x to_weights to_biases", Head)
        self.head_along = function(
            "head_along",
            "both weights_dot weights biases_dot biases labels to_both to_weights to_biases to_logs",
            Head,
        )
        self.net_gradient = function("net_gradient", "theta images labels losses to_theta space", Net)
        self.net_products = function(
            "net_products", "theta direction images labels to_theta to_images to_labels space", Net
        )
        self.space_of = library.space_of
        self.space_of.argtypes, self.space_of.restype = [Net, ctypes.c_long], ctypes.c_long
        self.few_forward = function("few_forward", "images weights maps", FewChannelInput)
        self.few_image = function("few_image", "to_maps weights to_images", FewChannelInput)
        self.few_weight = function("few_weight", "images to_maps to_weights", FewChannelInput)
        self.narrow_product = function("narrow_product", "images weights maps", Narrow)
        self.narrow_weight = function("narrow_weight", "images to_maps to_weights", Narrow)
        self.small_product = function("small_product", "images weights maps", Small)
        self.small_weight = function("small_weight", "images to_maps to_weights", Small)


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
        raise BadInput(f"compile=on: {why}: leave it at auto to do without", "compile")


def functions(dtype: torch.dtype, device: torch.device = _CPU) -> Functions | None:
    """Those to use on a device, if any: they are for a CPU."""
    found = None if _chosen == "off" or dtype not in _REAL or device.type != "cpu" else _compiled(dtype)
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
    about = [_SOURCE.read_text(), *compiler, *flags, platform.machine(), platform.processor(), *sorted(instructions())]
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
