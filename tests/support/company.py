"""Whether a trial comes to the same bits alone and in company on this machine."""

import functools

import torch

from ppodd.training import compiled


@functools.cache
def alone_as_in_company() -> bool:
    """Whether functions are compiled here, and a library multiplies one matrix as it does several: on Zen 4 it does."""
    return bool(compiled.functions(torch.float32)) and all(
        _multiplied_alike(rows, inner) for rows in (6, 10, 20, 64) for inner in (16, 32, 48)
    )


def _multiplied_alike(rows: int, inner: int, columns: int = 10) -> bool:
    random = torch.Generator().manual_seed(rows)
    some = torch.randn(3, rows, inner, generator=random)
    others = torch.randn(3, inner, columns, generator=random)
    return torch.equal(some[:1].bmm(others[:1]), some.bmm(others)[:1])
