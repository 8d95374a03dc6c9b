"""Seconds per phase of a long operation (no torch)."""

from __future__ import annotations

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
