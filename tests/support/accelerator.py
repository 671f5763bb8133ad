"""A device beside the CPU for machines that have none: its tensors are held by the CPU, and look as if they were not.

As on a GPU an operation takes no tensors of two devices, and some things make the host wait for all that the device
still has to do; these are noted. The numbers are the CPU's, so that what runs on both can be compared to rounding.
"""

import traceback
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("standin")
DEVICE = torch.device("standin:0")

_aten = torch.ops.aten
_COPIES = (_aten._to_copy.default, _aten.copy_.default)
_INDEXED = (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default)
_PACKAGE = str(Path(torch.__file__).parent)


class Resident(torch.Tensor):
    """A tensor on the device; `held` has its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held):
        resident = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=DEVICE
        )
        resident.held = held
        return resident

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} on the stand-in outside of `with Accelerator()`")


class Accelerator(TorchDispatchMode):
    """Inside, the device is there.

    Attributes:
        waits: what the host waited for the device at: operation, file, line and its text.
        operations: how many the device was given to do; views are none.
    """

    def __init__(self):
        super().__init__()
        self.waits, self.operations = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        residents = [t for t in tensors if isinstance(t, Resident)]
        device = kwargs.get("device")
        target = None if device is None else torch.device(device).type == DEVICE.type
        # a number may stand beside tensors of any device
        if func not in _COPIES and residents and any(t.dim() for t in tensors if not isinstance(t, Resident)):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device")
        if self._waits(func, args, kwargs, tensors, residents, target):
            frames = traceback.extract_stack()[:-1]
            frame = next(f for f in reversed(frames) if not f.filename.startswith((_PACKAGE, __file__)))
            self.waits.append(f"{func} {Path(frame.filename).name}:{frame.lineno} {frame.line}")
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        out = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        stays = bool(residents) if target is None else target
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        self.operations += stays and not view
        if func is _aten.copy_.default:
            return args[0]
        known = {id(t.held): t for t in residents}
        out = tree_map(lambda t: known.get(id(t), Resident(t)) if stays and torch.is_tensor(t) else t, out)
        # a change of shape in place: of the resident too
        return return_and_correct_aliasing(func, args, kwargs, out) if torch.Tag.inplace_view in func.tags else out

    @staticmethod
    def _waits(func, args, kwargs, tensors, residents, target):
        if func in _COPIES:
            elsewhere = len(residents) < len(tensors) if target is None else target != bool(residents)
            pinned_or_staged = kwargs.get("non_blocking") or (func is _aten.copy_.default and args[2:] == (True,))
            return bool(residents or target) and elsewhere and not pinned_or_staged
        if func in _INDEXED:
            return any(t.dtype in (torch.bool, torch.uint8) for t in tree_leaves(args[1]) if isinstance(t, Resident))
        unknown = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
        return bool(residents and unknown)


def _held(value):
    return value.held if isinstance(value, Resident) else value


@torch.library.impl("aten::empty_strided", "PrivateUse1")
def _made_by_value(*args, **kwargs):
    # torch.tensor(…, device=…) comes here, past every mode
    raise RuntimeError("a tensor made of Python values on the device: a copy that waits; fill it there (new_full)")
