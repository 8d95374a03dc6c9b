"""Measures the seconds of each phase of a long operation, and peak memory (no torch)."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Stopwatch:
    """Adds up the seconds of each phase.

    Attributes:
        seconds: The seconds so far, by phase.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent in the ``with`` block to the phase ``name``."""
        start = self._clock()
        try:
            yield
        finally:
            spent = self._clock() - start
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)


def peak_memory_mib() -> float:
    """Return the peak resident memory of this process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # bytes on macOS, KiB elsewhere
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
