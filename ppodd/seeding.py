"""Randomness from explicit generators: each derived from what it is for, none from global state."""

from __future__ import annotations

import hashlib

import torch


def derived_seed(*key: int | str) -> int:
    """A 63-bit seed from a key such as `(seed, "meta-step", stage, step)`."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*key: int | str) -> torch.Generator:
    """A generator on the CPU: the same numbers are drawn whatever device the tensors then go to."""
    return torch.Generator().manual_seed(derived_seed(*key))
