"""How fast waiting requests are served, for the Retry-After of a refused one."""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean

FIRST_GUESS = 5.0
"""Seconds that a reply is taken to need before any has ended."""

LONGEST_SECONDS = 60
"""The longest Retry-After: nobody knows how long the queue will be by then."""

_REPLIES = 64


class Pace:
    """Knows how long the last replies took, and how many are decoded at a time."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._seconds: deque[float] = deque([FIRST_GUESS], maxlen=_REPLIES)
        self._guessing = True

    def ended(self, seconds: float, *, running: int, waiting: int) -> None:
        """Note that a reply ended, and how many others were running and waiting."""
        if self._guessing:
            self._seconds.clear()
            self._guessing = False
        self._seconds.append(seconds)
        if waiting:
            # All rows are taken while others wait; there may be fewer than the settings allow.
            self._rows = max(1, running)

    def seconds_for(self, waiting: int) -> int:
        """Return in how many seconds those who wait now will all have a row; 1 at least.

        With ``rows`` rows and ``s`` seconds a reply, ``rows / s`` replies end in a second.
        """
        seconds = math.ceil(waiting * fmean(self._seconds) / self._rows)
        return min(max(1, seconds), LONGEST_SECONDS)
