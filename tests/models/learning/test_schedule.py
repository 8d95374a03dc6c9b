from __future__ import annotations

import math

import pytest

from models.learning.schedule import decayed


@pytest.mark.parametrize(
    ("steps", "expected"), [(0, 0.8), (30, 0.4), (150, 0.2), (990, 0.08), (10**9, 0.08)]
)
def test_the_rate_falls_with_the_root_of_the_steps_to_a_tenth(steps: int, expected: float) -> None:
    assert decayed(0.8, steps=steps, over=10.0) == pytest.approx(expected)


def test_the_rate_stays_where_nothing_is_to_decay() -> None:
    assert decayed(0.8, steps=10**6, over=math.inf) == 0.8
