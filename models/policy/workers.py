"""Threads that take passes over different replies side by side, a core each.

A pass is hundreds of small operations. To divide each of them among the cores means to wait for the
slowest core after each of them, and where other programs run, that one is slow; to divide the
replies means to wait once.
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
    """Some threads, started when they are first needed; with one, the caller does the work.

    Args:
        count: Threads.
        inside: torch's threads of each of them.
    """

    def __init__(self, count: int = 1, inside: int = 1) -> None:
        self.count, self._inside = count, inside
        self._pool: ThreadPoolExecutor | None = None

    def map(self, task: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
        """Yield the tasks' results in order; when it ends, no task is at work any more."""
        if self.count == 1:
            yield from map(task, items)
            return
        futures = [self._started().submit(task, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def _started(self) -> ThreadPoolExecutor:
        if self._pool is None:
            together = threading.Barrier(self.count)
            self._pool = ThreadPoolExecutor(self.count, "learn", self._begin)
            ours = torch.get_num_threads()
            wait([self._pool.submit(together.wait) for _ in range(self.count)])
            torch.set_num_threads(ours)  # what the threads set is what later ones begin with
        return self._pool

    def _begin(self) -> None:
        torch.get_num_threads()  # a thread's first call sets what all threads begin with
        torch.set_num_threads(self._inside)


def divide(lengths: Sequence[int], shares: int) -> list[list[int]]:
    """Divide things of these lengths into at most so many shares of about the same length.

    The longest first, each to the share that is shortest (R. Graham's rule, at most a third off).
    """
    found: list[list[int]] = [[] for _ in range(shares)]
    totals = [0] * shares
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        least = totals.index(min(totals))
        found[least].append(index)
        totals[least] += lengths[index]
    return [share for share in found if share]
