"""Libraries that an extra brings, and those that need a hand to be imported."""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import Any

from ppodd.errors import BadInput, one_line


def require(*modules: str, extra: str = "sweep") -> None:
    """Raise `BadInput` where a package of an extra is missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(f"{', '.join(missing)} is not installed: pip install 'ppodd[{extra}]'")


def torchvision() -> Any:
    """torchvision, also where its compiled operators do not fit this torch: a build for CUDA beside a torch for CPUs.

    Data sets need none of its operators, but it describes some of them while it is imported, so that these have to be
    there.

    Raises:
        BadInput: it cannot be imported.
    """
    while True:
        try:
            return importlib.import_module("torchvision")
        except (ImportError, RuntimeError) as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if not missing:
                raise BadInput(
                    f"torchvision cannot be imported ({one_line(error)}): install the one made for this torch"
                ) from None
            _declare(missing[1])


def _declare(operator: str) -> None:
    import torch

    torch.library.define(operator, "(Tensor x) -> Tensor")
