"""The ConvNets that train on posters, and any network of the user's own by import path."""

from __future__ import annotations

import logging

import torch
from torch import nn
from torch.func import functional_call

from ppodd.datasets import Spec
from ppodd.errors import BadInput, one_line
from ppodd.registry import located
from ppodd.training.architectures import ARCHITECTURES, check_architecture, feature_size, first_padding

_log = logging.getLogger(__name__)
_SUM_TOLERANCE = 1e-4  # within which rows are taken to sum to 1


class ConvNet(nn.Module):
    """Blocks of 3×3 convolution, normalisation, ReLU and 2×2 average pool, then one linear layer.

    Args:
        widths: channels of each block.
        norm: `instance` (GroupNorm with one group a channel), `batch` or `none`.
    """

    def __init__(self, spec: Spec, widths: list[int], norm: str = "instance"):
        super().__init__()
        self.norm = norm
        blocks: list[nn.Module] = []
        height, width = feature_size(spec, len(widths))
        channels, padding = spec.channels, first_padding(spec)
        for out in widths:
            blocks += [nn.Conv2d(channels, out, 3, padding=padding), *_norm(norm, out), nn.ReLU(), nn.AvgPool2d(2)]
            channels, padding = out, 1
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels * height * width, spec.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, C, h, w]` → logits `[B, K]`."""
        return self.classifier(self.features(x).flatten(1))


def _norm(kind: str, channels: int) -> list[nn.Module]:
    if kind == "none":
        return []
    return [nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(channels, channels)]


def convnet(spec: Spec, width: int, blocks: int, growth: int, norm: str) -> ConvNet:
    """A ConvNet whose first block has `width` channels and each further one `growth` times as many."""
    return ConvNet(spec, [width * growth**block for block in range(blocks)], norm)


class Network:
    """An architecture whose parameters live in one flat vector `θ [D]`, so that optimisers and gradients are plain.

    Buffers (batch statistics) are a network's own and updated in place while it trains.
    """

    def __init__(self, module: nn.Module, classes: int):
        self.module, self.classes = module, classes
        self._names, tensors = zip(*module.named_parameters(), strict=True)
        self._shapes = [t.shape for t in tensors]
        self._sizes = [t.numel() for t in tensors]
        self.theta = torch.cat([t.detach().flatten() for t in tensors])

    def parts(self, theta: torch.Tensor) -> list[torch.Tensor]:
        """`θ […, D]` as the module's parameters, in its order; views."""
        parts = zip(theta.split(self._sizes, -1), self._shapes, strict=True)
        return [part.unflatten(-1, shape) for part, shape in parts]

    def __call__(self, theta: torch.Tensor, x: torch.Tensor, keep_buffers: bool = False) -> torch.Tensor:
        """Logits `[B, K]` of images `[B, C, h, w]` under `θ`; `keep_buffers` leaves the buffers as they are."""
        tensors = dict(zip(self._names, self.parts(theta), strict=True))
        if keep_buffers:
            tensors |= {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        with located(self.module):
            logits = functional_call(self.module, tensors, (x,))
        if logits.shape != (len(x), self.classes):
            kind = type(self.module).__qualname__
            raise BadInput(
                f"network {kind} returned {tuple(logits.shape)} for images {tuple(x.shape)}; "
                f"accepted are logits [B, K], here {(len(x), self.classes)}"
            )
        return logits


def fresh_network(
    arch: str, spec: Spec, width: int, seed: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Network:
    """A newly initialised network of `arch`, in training mode; the same one for the same seed on every device.

    Raises:
        BadInput: images of `spec` are too small for it, or a user's own cannot be imported or makes no module.
    """
    check_architecture(arch, spec)
    architecture = ARCHITECTURES.get(arch)
    # torch's initialisers know only the global generator: lend it, and put it back
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = architecture(spec, width, **architecture.options)
    if not isinstance(module, nn.Module) or not list(module.parameters()):
        raise ARCHITECTURES.returned(arch, module)
    return Network(module.to(device=device, dtype=dtype).train(), spec.classes)


def check_network(arch: str, spec: Spec, width: int, twice: bool = True) -> None:
    """Try a user's network on two images: it must take them, and have the gradients that are taken of it.

    One that ends in a softmax works, and is warned of.

    Args:
        twice: whether its gradient is differentiated, too, as a meta-step does.

    Raises:
        BadInput: it cannot be imported, fails, makes no logits, or cannot be differentiated.
    """
    cpu = torch.device("cpu")
    check_architecture(arch, spec)
    with ARCHITECTURES.tried(arch) as own:
        network = fresh_network(arch, spec, width, 0, cpu) if own else None
    if network is None:
        return
    x = torch.randn(2, *spec[1:], generator=torch.Generator().manual_seed(0)).requires_grad_()
    theta = network.theta.requires_grad_()
    try:
        with torch.random.fork_rng(devices=[]):  # which dropout draws from
            logits = network(theta, x)
        (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), theta, create_graph=twice)
        gradients = [gradient, *(torch.autograd.grad(gradient.square().sum(), x) if twice else ())]
    except BadInput:
        raise
    except Exception as error:  # whatever a user's code raises
        raise BadInput(f"arch {arch!r} fails on images {tuple(x.shape)}: {one_line(error)}") from error
    if not all(found.isfinite().all() for found in gradients):
        raise BadInput(f"arch {arch!r}: its gradient for images {tuple(x.shape)} is no number: look at its forward")
    if twice and not gradients[1].any():
        raise BadInput(
            f"arch {arch!r}: no gradient reaches the images, so that it distils no poster: look for detach, no_grad or "
            f"rounding in its forward"
        )
    if (logits >= 0).all() and (logits.sum(1) - 1).abs().max() < _SUM_TOLERANCE:
        _log.warning(
            "arch %r returns probabilities: cross-entropy takes logits, leave the softmax at its end out", arch
        )
