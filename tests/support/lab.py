"""A lab's own network, blend strategy, class order and data set: each one function, as a user writes it."""

import numpy as np
from sklearn.datasets import load_digits
from torch import nn


def net(spec, width):
    """A linear classifier."""
    return nn.Sequential(nn.Flatten(), nn.Linear(spec.channels * spec.height * spec.width, spec.classes))


def mostly_new(accuracies, parameters):
    """Of two stages, three quarters the one in training."""
    return [1.0] if not accuracies else [0.25, 0.75]


def downwards(dataset, rows, columns):
    """The last class first."""
    return np.arange(rows * columns)[::-1].reshape(rows, columns)


def scans(root):
    """Digits, as if they had been scanned."""
    digits = load_digits()
    pictures = (digits.images * 15).astype(np.uint8)
    return {"train": (pictures[:1200], digits.target[:1200]), "test": (pictures[1200:], digits.target[1200:])}
