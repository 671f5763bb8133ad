"""Whether a trial comes to the same bits alone and in company on this machine."""

import functools
import itertools

import torch

from ppodd.training import compiled


@functools.cache
def alone_as_in_company() -> bool:
    """Whether functions are compiled here, and a library multiplies one matrix as it does several: on Zen 4 it does."""
    return bool(compiled.functions(torch.float32)) and all(
        torch.equal(several[:1].bmm(others[:1]), several.bmm(others)[:1])
        for several, others in itertools.starmap(_pair, itertools.product((6, 10, 20, 64), (16, 32, 48), (10,)))
    )


def _pair(rows: int, inner: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(rows)
    return torch.randn(3, rows, inner, generator=random), torch.randn(3, inner, columns, generator=random)
