from __future__ import annotations

from dataclasses import replace

import pytest

from models.learning.caution import MOST_SETBACKS, cautious
from models.recipe import THUMBLOOP


@pytest.mark.parametrize(("setbacks", "share"), [(0, 1.0), (1, 0.5), (3, 0.125)])
def test_votes_push_less_far_and_the_base_pulls_as_before(setbacks: int, share: float) -> None:
    usual = replace(THUMBLOOP, learning_rate=0.01, kl_coefficient=0.05)
    found = cautious(usual, setbacks)
    assert found.learning_rate == pytest.approx(0.01 * share)
    assert found.learning_rate * found.kl_coefficient == pytest.approx(0.01 * 0.05)
    assert replace(found, learning_rate=0.01, kl_coefficient=0.05) == usual


def test_caution_has_an_end() -> None:
    assert cautious(THUMBLOOP, MOST_SETBACKS + 9) == cautious(THUMBLOOP, MOST_SETBACKS)
    assert cautious(THUMBLOOP, MOST_SETBACKS).learning_rate > 0
