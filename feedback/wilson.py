"""Wilson's score interval of a share: pure."""

from __future__ import annotations

import math

_Z = 1.959963984540054
"""Two-sided 95 % of the standard normal distribution."""


def wilson_interval(successes: float, trials: float) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a share, in [0, 1]; (0, 1) for no trials.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927): unlike the share plus or minus its standard error, it stays within [0, 1]
    and is honest near both ends.
    """
    if trials <= 0:
        return 0.0, 1.0
    share, square = successes / trials, _Z * _Z
    scale = 1 + square / trials
    middle = (share + square / (2 * trials)) / scale
    spread = share * (1 - share) / trials + square / (4 * trials * trials)
    half = _Z * math.sqrt(spread) / scale
    return max(0.0, middle - half), min(1.0, middle + half)
