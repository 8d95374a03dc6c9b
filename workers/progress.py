"""What a run is doing: for the record, and for the log seldom enough not to flood it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.types import Progress

LINE_SECONDS = 2.0
STARTS = "loads the base model; the first time its kernels are compiled, which takes minutes"

logger = logging.getLogger(__name__)


class ProgressLog:
    """Knows what a run does, and logs it at each new phase and at most every two seconds.

    Attributes:
        doing: What the run does now, for people.
    """

    def __init__(self, run: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._clock = clock
        self._phase = ""
        self.doing = "reads the votes"
        self._said_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Note this sign of progress, and log it unless one was logged just before."""
        self.doing = f"{progress.phase} {progress.done} of {progress.total}"
        now = self._clock()
        if progress.phase == self._phase and now - self._said_at < LINE_SECONDS:
            return
        self._phase, self._said_at = progress.phase, now
        logger.info("Run %d: %s %d/%d", self._run, progress.phase, progress.done, progress.total)
