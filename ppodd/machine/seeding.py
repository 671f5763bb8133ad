"""Randomness from explicit generators: each derived from what it is for, none from global state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch


def derived_seed(*key: int | str) -> int:
    """A 63-bit seed from a key such as `(seed, "meta-step", stage, step)`."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*key: int | str) -> torch.Generator:
    """A generator on the CPU: the same numbers are drawn whatever device the tensors then go to."""
    return torch.Generator().manual_seed(derived_seed(*key))


@contextmanager
def seeded(device: torch.device, *key: int | str) -> Iterator[None]:
    """Inside, torch's global generators are seeded from a key: for what a user's network draws; then as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed = derived_seed(*key)
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


class GlobalRandomness(NamedTuple):
    """The state of torch's global generators, which only a user's own network (dropout, say) draws from."""

    cpu: torch.Tensor
    gpu: torch.Tensor | None
    device: torch.device

    @classmethod
    def now(cls, device: torch.device) -> GlobalRandomness:
        """The state at this moment."""
        gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), gpu, device)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Inside, the same numbers are drawn again; afterwards the generators are as they were."""
        with torch.random.fork_rng(devices=[] if self.gpu is None else [self.device]):
            torch.set_rng_state(self.cpu)
            if self.gpu is not None:
                torch.cuda.set_rng_state(self.gpu, self.device)
            yield
