"""A ConvNet's last layer and its loss: linear, softmax, cross-entropy, forward and backward at once.

Of several networks side by side, each on its own images. Labels are negative and over the number of images, so that
the loss is their product with the log-softmax. On a CPU with a C compiler each pass is one function, which takes each
network by itself: a matrix library's rounding depends on how many there are, and on where their numbers lie.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch

from ppodd.training import compiled
from ppodd.training.convolution import laid_out, layout

Tensor = torch.Tensor
_aten = torch.ops.aten


class Classified(NamedTuple):
    """The loss `[E]` and its gradients to maps, weights `[E, K, D]` and biases `[E, K]`."""

    losses: Tensor
    maps: Tensor
    weight: Tensor
    bias: Tensor


class ClassifiedAlong(NamedTuple):
    """`[g; ġ]` at `[ẋ; x]`; the tangents of the gradients to weights and biases, and of the log-softmax `[E, B, K]`."""

    both: Tensor
    weight: Tensor
    bias: Tensor
    logs: Tensor


class Classifier(Protocol):
    """Of maps `[B, E·C, h, w]` and labels `[E, B, K]`; a network's weights and biases are parts of one vector."""

    def gradient(self, maps: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Classified:
        """For weights `[E, K, D]` and biases `[E, K]`."""

    def along(self, both: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> ClassifiedAlong:
        """For `[ẋ; x]`, `[2·B, …]`, and weights and biases `[2, E, …]`, the direction first."""


def classifier(device: torch.device, dtype: torch.dtype) -> Classifier:
    """The fastest there is."""
    functions = compiled.functions(dtype, device)
    return CompiledClassifier(functions) if functions else TorchClassifier()


class CompiledClassifier:
    """By functions of `kernels.c`."""

    def __init__(self, functions: compiled.Functions):
        self._do = functions

    def gradient(self, maps: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Classified:
        """See `Classifier`."""
        maps, networks = laid_out(maps), len(weight)
        found = Classified(
            maps.new_empty(networks), torch.empty_like(maps), weight.new_empty(weight.shape), bias.new_empty(bias.shape)
        )
        self._do.head(_size(maps, len(maps), weight, bias), maps, weight, bias, labels.contiguous(), *found)
        return found

    def along(self, both: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> ClassifiedAlong:
        """See `Classifier`."""
        both, labels = laid_out(both), labels.contiguous()
        found = ClassifiedAlong(
            torch.empty_like(both), weight.new_empty(weight.shape[1:]), bias.new_empty(bias.shape[1:]),
            torch.empty_like(labels),
        )  # fmt: skip
        size = _size(both, len(both) // 2, weight[1], bias[1])
        self._do.head_along(size, both, *weight[:2], *bias[:2], labels, *found)
        return found


def _size(maps: Tensor, images: int, weight: Tensor, bias: Tensor) -> compiled.Head:
    networks, classes, features = weight.shape
    assert networks == 1 or weight.stride(0) == bias.stride(0), "a network's weights and biases are of one vector"
    pixels = maps.shape[2] * maps.shape[3]
    apart = weight.stride(0), classes * features, classes
    return compiled.Head(images, pixels, networks, features // pixels, classes, *apart, torch.get_num_threads())


class TorchClassifier:
    """In torch's operations."""

    def gradient(self, maps: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> Classified:
        """See `Classifier`."""
        features = _features(maps, len(weight))
        log_q = torch.baddbmm(bias[:, None], features, weight.mT).log_softmax(-1)
        g = _logits_gradient(labels, log_q)
        return Classified((labels * log_q).sum((1, 2)), _maps(g @ weight, maps), g.mT @ features, g.sum(1))

    def along(self, both: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> ClassifiedAlong:
        """See `Classifier`."""
        features, (weight_dot, weight) = _features(both.unflatten(0, (2, -1)), weight.shape[1]), weight[:2]
        logits_dot, logits = features @ weight.mT + bias[:2, :, None]
        logits_dot.baddbmm_(features[1], weight_dot.mT)
        log_q = logits.log_softmax(-1)
        log_q_dot = logits_dot - (log_q.exp() * logits_dot).sum(-1, keepdim=True)
        g = _logits_gradient(labels, log_q)
        g_both = torch.stack([g, (g - labels) * log_q_dot])
        g_features = g_both @ weight
        g_features[1].baddbmm_(g, weight_dot)
        to_weight = (g_both.mT @ features).sum(0)
        return ClassifiedAlong(_maps(g_features, both), to_weight, g_both[1].sum(1), log_q_dot)


def _features(maps: Tensor, networks: int) -> Tensor:
    """Maps `[…, B, E·C, h, w]` as a linear layer takes them: `[…, E, B, D]`."""
    return maps.unflatten(-3, (networks, -1)).flatten(-3).transpose(-3, -2)


def _maps(features: Tensor, like: Tensor) -> Tensor:
    """The backward pass, in the shape of `like`."""
    return features.transpose(-3, -2).reshape(like.shape).contiguous(memory_format=layout(like.device))


def _logits_gradient(labels: Tensor, log_q: Tensor) -> Tensor:
    """Of the product with negative labels, which is the loss."""
    return _aten._log_softmax_backward_data(labels, log_q, -1, log_q.dtype)
