"""How the learning rate rises and falls over an adapter's life."""

from __future__ import annotations

import math

LEAST_RATE = 0.1
"""The least share of the learning rate, at any age of an adapter, because tastes change."""


def share_of_rate(step: int, *, warmup: int, decay: float) -> float:
    """Return the share of the learning rate for an adapter's step number ``step``, from 0.

    The share rises linearly over the first ``warmup`` steps, while Adam's moments come from only a
    few gradients. It then falls as 1 / √(1 + step / decay), but not below a tenth. The noise of
    votes adds to an adapter in proportion to the rate, and what votes agree on in proportion to the
    sum of the rates. To converge, the rate must fall while its sum still grows (Robbins and Monro,
    1951).
    """
    rising = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return rising * max(LEAST_RATE, 1.0 / math.sqrt(1.0 + step / decay))
