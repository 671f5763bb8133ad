"""Networks of a user's own, named by import path as `user_networks:Linear`."""

import torch
from torch import nn
from torch.nn import functional as F


class Linear(nn.Sequential):
    """Its derivatives are autograd's."""

    def __init__(self, spec, width):
        pixels = spec.channels * spec.height * spec.width
        super().__init__(nn.Flatten(), nn.Linear(pixels, spec.classes))


class Dropout(nn.Sequential):
    """It draws random numbers in training alone."""

    def __init__(self, spec, width):
        pixels = spec.channels * spec.height * spec.width
        super().__init__(nn.Flatten(), nn.Dropout(0.3), nn.Linear(pixels, spec.classes))


class Smooth(nn.Module):
    """A network without kinks, so that finite differences converge."""

    def __init__(self, spec, width):
        super().__init__()
        self.first = nn.Linear(spec.channels * spec.height * spec.width, width)
        self.last = nn.Linear(width, spec.classes)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x.flatten(1))))


class Noisy(Smooth):
    """It draws random numbers of its own."""

    def forward(self, x):
        return self.last(F.dropout(torch.tanh(self.first(x.flatten(1))), 0.3))
