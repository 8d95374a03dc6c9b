"""What a step minimises: each part by itself, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.learning.objective import objective
from models.learning.scored_batch import ScoredBatch, StartScores
from models.policy.batch import collate
from models.policy.policy import ReplyScores
from models.recipe import THUMBLOOP
from models.types import Sample


@pytest.fixture
def part() -> ScoredBatch:
    """One liked and one disliked reply of a token, with the policy where it began."""
    samples = [Sample(n, n, (5,), (40,), (-1.0,), 1.0, r, "base", ended=True)
               for n, r in (("a", 1.0), ("b", -1.0))]  # fmt: skip
    one = torch.ones(2, 1)
    return ScoredBatch(
        batch=collate(samples, [0, 1], device="cpu"),
        at_start=StartScores(-one, one * 0, one * 0),
        weights=one,
        kept=one.bool(),
        advantages=torch.tensor([[2.0], [-1.0]]),
        returns=one,
        divisors=torch.full((2,), 4.0),
        all_divisors=torch.full((2,), 5.0),
        beta=0.1,
        loss_beta=0.1,
    )


def _new(kl: torch.Tensor | None = None) -> ReplyScores:
    """The policy where it began, and how far that is from the base."""
    one = torch.ones(2, 1)
    return ReplyScores(-one, one * 0 if kl is None else kl, states=one)


def test_the_policys_loss_alone(part: ScoredBatch) -> None:
    found = objective(part, _new(), THUMBLOOP)
    # -(2 - 1) / 2 replies / 4
    assert found.loss.item() == pytest.approx(-0.125)
    assert found.policy.ratio_mean.item() == 1.0


def test_the_kl_is_over_all_tokens(part: ScoredBatch) -> None:
    # the disliked reply is dropped, but drifts all the same
    part = replace(part, kept=torch.tensor([[True], [False]]))
    full_kl = torch.tensor([[1.0], [3.0]])
    found = objective(part, _new(full_kl), THUMBLOOP)
    # -2 / 2 / 4 and 0.1 · 4 / 2 / 5
    assert found.loss.item() == pytest.approx(-0.25 + 0.04)


def test_the_critics_error(part: ScoredBatch) -> None:
    values = torch.tensor([[0.1], [0.2]])
    found = objective(part, _new(), THUMBLOOP, values)
    # ½ (0.9² + 0.8²) / 2 / 4 more
    assert found.loss.item() == pytest.approx(-0.125 + 0.090625)
