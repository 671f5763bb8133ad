"""First and second derivatives of a network's loss on one batch, as the inner loop and the meta-gradient need them."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F

from ppodd.training.networks import Network


class Products(NamedTuple):
    """Gradients of `⟨∇θ L, v⟩` to `θ [D]` (Hessian times `v`), images `[B, C, h, w]` and labels `[B, K]`."""

    theta: torch.Tensor
    images: torch.Tensor
    labels: torch.Tensor


class Derivatives(Protocol):
    """Of `L(θ, images, labels)`, the mean cross-entropy with labels `[B, K]`. Nothing returned is in a graph."""

    def gradient(
        self, theta: torch.Tensor, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss and `∇θ L [D]`."""

    def products(
        self, theta: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, direction: torch.Tensor
    ) -> Products:
        """The products with the second derivatives in the `direction` `v [D]`.

        Replays a gradient that was taken before: the network's buffers stay as they are.
        """


class AutogradDerivatives:
    """Derivatives of any network, reverse-over-reverse."""

    def __init__(self, network: Network):
        self._network = network

    def gradient(
        self, theta: torch.Tensor, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Derivatives`."""
        theta = theta.detach().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(self._network(theta, images), labels)
        return loss.detach(), torch.autograd.grad(loss, theta)[0]

    def products(
        self, theta: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, direction: torch.Tensor
    ) -> Products:
        """See `Derivatives`: the gradient's graph is differentiated once more."""
        theta, images, labels = (t.detach().requires_grad_() for t in (theta, images, labels))
        with torch.enable_grad():
            loss = F.cross_entropy(self._network(theta, images, keep_buffers=True), labels)
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        return Products(*torch.autograd.grad(gradient, (theta, images, labels), direction, materialize_grads=True))
