"""Seconds per phase of a long operation, and the memory it took (no torch)."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Stopwatch:
    """Adds up the seconds that each phase took."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time spent inside as ``name``."""
        start = self._clock()
        try:
            yield
        finally:
            spent = self._clock() - start
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)


def peak_memory_mib() -> float:
    """Return the most resident memory that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # bytes on macOS, KiB elsewhere
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
