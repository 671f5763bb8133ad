"""The outer step: how posters (and labels, and the inner rate) move along the meta-gradient."""

from __future__ import annotations

import math

import torch

from ppodd.config import METHODS, DistillConfig
from ppodd.distillation.training_state import TrainingState
from ppodd.errors import NonFinite
from ppodd.training import Learned

_CLIP = 2.0  # times the average norm


def outer_step(
    config: DistillConfig, state: TrainingState, loss: torch.Tensor, gradients: Learned, rate: float = 1.0
) -> None:
    """Clip the poster's gradient to twice its running norm, take Adam's step, clip labels at 0 from below.

    `rate` is a factor of the outer learning rates. A poster that the method does not learn stays as it is. The state is
    not whole then: what else follows from the meta-step is the caller's to do.

    Raises:
        NonFinite: the loss or a gradient is no number; `state` is as it was.
    """
    norms = {name: gradient.norm() for name, gradient in gradients.items()}
    value, *sizes = torch.stack([loss, *norms.values()]).tolist()  # the meta-step's one wait for the device
    measured = {"meta-loss": value, **{f"meta-gradient of the {n}": s for n, s in zip(norms, sizes, strict=True)}}
    for what, number in measured.items():
        if not math.isfinite(number):
            raise NonFinite(
                f"{what.replace('_', ' ')} is {number} at stage {state.stage}, meta-step {state.step + 1}: "
                f"the poster is as it was before; lower lr or inner_lr, or shorten window"
            )
    norm = measured["meta-gradient of the poster"]
    average = state.norm_average or norm
    average = config.clip_coef * average + (1 - config.clip_coef) * norm
    gradients["poster"] = gradients["poster"] * min(1.0, _CLIP * average / max(norm, 1e-30))
    state.whole = False
    state.norm_average = average
    if METHODS.known(config.method).learns != "all":
        del gradients["poster"]
    _adam(config, state, gradients, rate)
    if "label_array" in state.learned:
        state.learned["label_array"].clamp_(min=0)
    state.step += 1
    state.meta_steps += 1
    state.loss = state.loss.then(value, is_first=state.step == 1)


def _adam(config: DistillConfig, state: TrainingState, gradients: Learned, rate: float) -> None:
    """The outer optimiser, torch's own, its state taken from and given back to the state."""
    lr = rate * config.lr
    rates = {"label_array": lr / config.label_lr_scale}
    moving = {name: state.learned[name] for name in gradients}
    groups = []
    for name, tensor in moving.items():
        tensor.grad = gradients[name]
        groups.append({"params": [tensor], "lr": rates.get(name, lr)})
    adam = torch.optim.Adam(groups, lr=lr, eps=config.eps, weight_decay=config.wd)
    for name, tensor in moving.items():
        first, second = state.moments[name]
        step = torch.tensor(float(state.adam_steps))
        adam.state[tensor] = {"step": step, "exp_avg": first, "exp_avg_sq": second}
    adam.step()
    for tensor in moving.values():
        tensor.grad = None
    state.adam_steps += 1
