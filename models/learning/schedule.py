"""How the learning rate rises and falls over an adapter's life."""

from __future__ import annotations

import math

LEAST_RATE = 0.1
"""What is left of the learning rate however old an adapter is: tastes change."""


def share_of_rate(step: int, *, warmup: int, decay: float) -> float:
    """Return the share of the learning rate that an adapter's step number ``step``, from 0, takes.

    It rises linearly over the first ``warmup`` steps, in which Adam's moments are those of a few
    gradients. From then on it is 1 / √(1 + step / decay), but at least a tenth: what the noise of
    votes adds to an adapter grows with the rate, what the votes agree on with the sum of the rates,
    so to come close, the one must fall while the other still grows (Robbins and Monro, 1951).
    """
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rising * max(LEAST_RATE, 1.0 / math.sqrt(1.0 + step / decay))
