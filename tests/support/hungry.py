"""A network for tests of want of memory: it fails as PyTorch does when it trains on more than 20 images at a time."""

import torch
from torch import nn


class Hungry(nn.Module):
    def __init__(self, spec, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(spec.channels * spec.height * spec.width, spec.classes))

    def forward(self, x):
        if self.training and len(x) > 20:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(x)} images")
        return self.layers(x)
