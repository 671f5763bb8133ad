"""Independent work on a CPU's cores, within the threads that this process may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_threads(work: Callable[[Item, Event], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """`work` of every item, in their order; `threads` are shared out among the items that run at the same time.

    An error, or an interrupt, sets the event that `work` is given: what it returns from then on is not looked at. The
    error is raised once the running items have returned.
    """
    stop, at_once = Event(), min(threads, len(items))
    if at_once <= 1:
        return [work(item, stop) for item in items]
    before = torch.get_num_threads()
    # torch's number of threads is one for the process: this thread, which only waits meanwhile, puts it back
    try:
        with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(threads // at_once,)) as pool:
            try:
                return list(pool.map(lambda item: work(item, stop), items))
            except BaseException:
                stop.set()
                raise
    finally:
        torch.set_num_threads(before)
