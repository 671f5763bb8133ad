"""Where a distillation stands: all that changes from one meta-step to the next, and all that a resumed run needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ppodd.archive import LossSoFar, ResumePosition
from ppodd.training import Learned


@dataclass
class TrainingState:
    """Everything a resumed run needs beside the archived stages; `step` meta-steps of `stage` are done.

    Attributes:
        learned: poster `[C, H, W]`, and label array and log inner learning rate where they are learned.
        moments: the outer Adam's two moments for each entry of `learned`.
        adam_steps: outer steps taken since Adam's start.
        norm_average: running average of the poster gradient's norm, 0 before the stage's first meta-step.
        curriculum, best_loss, best_epoch: state of cctype 1.
        meta_steps: taken in this stage and all before it.
        follows: digest of the poster of the stage before this one; empty in the first, and where an older version
            wrote the checkpoint.
        whole: whether this is how a meta-step left it; not archived, for only such states are.
    """

    learned: Learned
    moments: dict[str, tuple[torch.Tensor, torch.Tensor]]
    stage: int = 1
    step: int = 0
    adam_steps: int = 0
    norm_average: float = 0.0
    curriculum: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    meta_steps: int = 0
    follows: str = ""
    seconds: float = 0.0
    loss: LossSoFar = ResumePosition().loss
    whole: bool = True

    def to_arrays(self) -> tuple[dict[str, np.ndarray], ResumePosition]:
        """Arrays and numbers, for the archive."""
        arrays = {f"learned.{name}": tensor.cpu().numpy() for name, tensor in self.learned.items()}
        for name, moments in self.moments.items():
            arrays |= {f"moment{i}.{name}": moment.cpu().numpy() for i, moment in enumerate(moments)}
        rest = {k: v for k, v in vars(self).items() if k not in ("learned", "moments", "whole")}
        return arrays, ResumePosition(**{**rest, "best_loss": None if math.isinf(self.best_loss) else self.best_loss})

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, np.ndarray], position: ResumePosition, device: torch.device
    ) -> TrainingState:
        """The inverse of `to_arrays`; what an earlier version did not write is at its default."""
        tensors = {k: torch.from_numpy(v.copy()).to(device) for k, v in arrays.items()}
        names = [k.removeprefix("learned.") for k in tensors if k.startswith("learned.")]
        best = math.inf if position.best_loss is None else position.best_loss
        return cls(
            {n: tensors[f"learned.{n}"] for n in names},
            {n: (tensors[f"moment0.{n}"], tensors[f"moment1.{n}"]) for n in names},
            **{**dict(position), "best_loss": best},
        )
