from __future__ import annotations

import math

import pytest

from models.learning.schedule import share_of_rate


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 1.0), (30, 0.5), (150, 0.25), (990, 0.1), (10**9, 0.1)]
)
def test_the_rate_falls_with_the_root_of_the_steps_to_a_tenth(step: int, expected: float) -> None:
    assert share_of_rate(step, warmup=0, decay=10.0) == pytest.approx(expected)


def test_the_rate_stays_where_nothing_is_to_decay() -> None:
    assert share_of_rate(10**6, warmup=0, decay=math.inf) == 1.0


@pytest.mark.parametrize(("step", "expected"), [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0)])
def test_the_rate_rises_over_the_first_steps(step: int, expected: float) -> None:
    assert share_of_rate(step, warmup=4, decay=math.inf) == expected
