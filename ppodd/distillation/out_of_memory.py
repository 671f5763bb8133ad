"""Out of memory: which setting to lower."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator
from typing import Any

from ppodd.config import DistillConfig
from ppodd.errors import PpoddError
from ppodd.machine import DeviceError, device_error


class OutOfMemory(PpoddError):
    """A distillation did not fit the memory there is; its archive is as it was at the last checkpoint."""


def advice(config: DistillConfig) -> str:
    """What to change, the harmless first."""
    engine = "use engine recomputed, " if config.engine == "unrolled" else ""
    return (
        f"{engine}lower real_chunk ({config.real_chunk} now; the results stay the same to rounding); if that is not "
        f"enough, distill_batch_size ({config.distill_batch_size}), window ({config.window}) or width "
        f"({config.width}), which change the result"
    )


def halved(config: DistillConfig) -> DistillConfig | None:
    """The same distillation with half the real images in a graph at a time; `None` where there is no half."""
    chunk = min(config.real_chunk, config.batch_size) // 2
    return config.model_copy(update={"real_chunk": chunk}) if chunk else None


def explained(run: Callable[..., Iterator[Any]]) -> Callable[..., Generator[Any, Any, None]]:
    """A distillation (a generator; its first argument is the config) that raises `OutOfMemory` when memory runs out."""

    @functools.wraps(run)
    def wrapped(config: DistillConfig, *args: Any, **kwargs: Any) -> Generator[Any, Any, None]:
        try:
            yield from run(config, *args, **kwargs)
        except (MemoryError, RuntimeError) as error:
            if device_error(error) is not DeviceError.OUT_OF_MEMORY:
                raise
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise OutOfMemory(f"out of memory ({said}): {advice(config)}") from error

    return wrapped
