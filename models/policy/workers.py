"""Threads that run passes over different replies in parallel, one on each core.

A pass is hundreds of small operations. If each operation were divided among the cores, each would
wait for the slowest core, which other programs may slow down. Dividing the replies waits only once.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Workers:
    """A thread pool that starts when it is first used; with one worker, the caller does the work.

    Args:
        count: The number of workers.
        torch_threads: The torch threads of each worker.
    """

    def __init__(self, count: int = 1, torch_threads: int = 1) -> None:
        self.count, self._torch_threads = count, torch_threads
        self._pool: ThreadPoolExecutor | None = None

    def map(self, task: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
        """Yield the results of the tasks in order; no task runs after the iterator ends."""
        if self.count == 1:
            yield from map(task, items)
            return
        futures = [self._get_pool().submit(task, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def _get_pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            barrier = threading.Barrier(self.count)
            self._pool = ThreadPoolExecutor(self.count, "learn", self._initialise)
            torch_threads_before = torch.get_num_threads()
            wait([self._pool.submit(barrier.wait) for _ in range(self.count)])
            torch.set_num_threads(
                torch_threads_before
            )  # a thread's setting is the default of later threads
        return self._pool

    def _initialise(self) -> None:
        torch.get_num_threads()  # a thread's first call sets the default of all threads
        torch.set_num_threads(self._torch_threads)


def divide(lengths: Sequence[int], shares: int) -> list[list[int]]:
    """Divide items into at most ``shares`` shares of about the same total length.

    Each item, longest first, goes to the share with the least total. The longest share is at most a
    third longer than in the best division (R. L. Graham, 1969).

    Returns:
        The indices of the items in each share that has any.
    """
    found: list[list[int]] = [[] for _ in range(shares)]
    totals = [0] * shares
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        least = totals.index(min(totals))
        found[least].append(index)
        totals[least] += lengths[index]
    return [share for share in found if share]
