"""How the learning rate falls over an adapter's life."""

from __future__ import annotations

import math

LEAST_RATE = 0.1
"""What is left of the learning rate however old an adapter is: tastes change."""


def decayed(rate: float, *, steps: int, over: float) -> float:
    """Return ``rate`` / √(1 + steps / over), but at least a tenth of it.

    What the noise of votes adds to an adapter grows with the rate, what the votes agree on with the
    sum of the rates: to come close, the one must fall while the other still grows
    (Robbins and Monro, 1951).
    """
    return rate * max(LEAST_RATE, 1.0 / math.sqrt(1.0 + steps / over))
