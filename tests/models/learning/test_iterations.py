"""A large batch is divided into PPO iterations."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.learning.iterations import as_part, divide
from models.learning.report import update_figures
from models.types import Progress

if TYPE_CHECKING:
    from typing import Any


@given(batch=st.integers(1, 300), votes=st.integers(0, 64))
def test_every_vote_is_in_one_iteration_and_none_is_small(batch: int, votes: int) -> None:
    given_votes: Any = [f"v{i}" for i in range(batch)]
    parts = divide(given_votes, votes=votes)
    assert sorted(vote for part in parts for vote in part.votes) == sorted(given_votes)
    for one, two in pairwise(given_votes):
        assert len(parts) == 1 or not any({one, two} <= set(part.votes) for part in parts)
    sizes = [len(part.votes) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    if votes and batch >= votes:
        assert votes <= min(sizes) < 2 * votes
    else:
        assert len(parts) == 1


def test_progress_is_of_the_whole_update() -> None:
    told: list[Progress] = []
    for number in range(3):
        tell = as_part(told.append, number, 3)
        tell(Progress("learn", 1, 2))
        tell(Progress("learn", 2, 2))
    assert [at.done for at in told] == [1, 2, 3, 4, 5, 6]
    assert {(at.phase, at.total) for at in told} == {("learn", 6)}


def test_figures_of_an_update_are_those_of_its_iterations_together() -> None:
    small = {"votes": 10, "kl_per_reply": 1.0, "ratio_max": 3.0, "loss_first": 0.1}
    small |= {"loss_last": 0.2, "beta": 0.05, "steps": 8, "stopped_early": False, "step_kl": 0.02}
    large = {"votes": 30, "kl_per_reply": 2.0, "ratio_max": 2.0, "loss_first": 0.3}
    large |= {"loss_last": 0.4, "beta": 0.06, "steps": 4, "stopped_early": True, "step_kl": 0.01}
    assert update_figures([small, large]) == {
        "iterations": 2,
        "votes": 40,
        "kl_per_reply": pytest.approx(1.75),
        "ratio_max": 3.0,
        "loss_first": 0.1,
        "loss_last": 0.4,
        "beta": 0.06,
        "steps": 12,
        "stopped_early": True,
        "step_kl": 0.02,
    }
    assert update_figures([small]) == {"iterations": 1, **small}
