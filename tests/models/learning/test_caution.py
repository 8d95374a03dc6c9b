from __future__ import annotations

import pytest

from models.learning.caution import MOST_SETBACKS, cautious
from models.settings import LearnerSettings


@pytest.mark.parametrize(("setbacks", "share"), [(0, 1.0), (1, 0.5), (3, 0.125)])
def test_votes_push_less_far_and_the_base_pulls_as_before(setbacks: int, share: float) -> None:
    usual = LearnerSettings(learning_rate=0.01, kl_coefficient=0.05)
    found = cautious(usual, setbacks)
    assert found.learning_rate == pytest.approx(0.01 * share)
    assert found.learning_rate * found.kl_coefficient == pytest.approx(0.01 * 0.05)
    changed = {"learning_rate", "kl_coefficient"}
    assert found.model_dump(exclude=changed) == usual.model_dump(exclude=changed)


def test_caution_has_an_end() -> None:
    usual = LearnerSettings()
    assert cautious(usual, MOST_SETBACKS + 9) == cautious(usual, MOST_SETBACKS)
    assert cautious(usual, MOST_SETBACKS).learning_rate > 0
