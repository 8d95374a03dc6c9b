"""Logs the progress of a run, seldom enough not to flood the log."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.types import Progress

LINE_SECONDS = 2.0

logger = logging.getLogger(__name__)


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
