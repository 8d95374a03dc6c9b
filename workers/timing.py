"""Seconds per phase, and progress lines that do not flood the log."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.types import Progress

LINE_SECONDS = 2.0

logger = logging.getLogger(__name__)


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


class ProgressLog:
    """Logs how far a run is: at each new phase and then at most every two seconds."""

    def __init__(self, run: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._clock = clock
        self._phase = ""
        self._said_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Log this sign of progress unless one was logged just before."""
        now = self._clock()
        if progress.phase == self._phase and now - self._said_at < LINE_SECONDS:
            return
        self._phase, self._said_at = progress.phase, now
        logger.info("Run %d: %s %d/%d", self._run, progress.phase, progress.done, progress.total)
