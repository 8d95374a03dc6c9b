"""What a step minimises: each setting adds its own part, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from models.learning.objective import objective
from models.learning.scored_batch import ScoredBatch, StartScores
from models.policy.batch import collate
from models.policy.policy import ReplyScores
from models.types import Sample

if TYPE_CHECKING:
    from models.settings import LearnerSettings


@pytest.fixture
def part() -> ScoredBatch:
    """One liked and one disliked reply of a token, with the policy where it began."""
    samples = [Sample(n, n, (5,), (40,), (-1.0,), 1.0, r, "base", ended=True)
               for n, r in (("a", 1.0), ("b", -1.0))]  # fmt: skip
    one = torch.ones(2, 1)
    return ScoredBatch(
        batch=collate(samples, [0, 1], device="cpu"),
        at_start=StartScores(-one, one * 0, one * 0),
        proximal=-one,
        weights=one,
        kept=one.bool(),
        advantages=torch.tensor([[2.0], [-1.0]]),
        returns=one,
        approvals=torch.tensor([1.0, 0.0]),
        divisors=torch.full((2,), 4.0),
        all_divisors=torch.full((2,), 5.0),
        beta=0.1,
        loss_beta=0.1,
    )


def _new(kl: torch.Tensor | None = None) -> ReplyScores:
    """The policy where it began, and how far that is from the base."""
    one = torch.ones(2, 1)
    return ReplyScores(-one, one * 0 if kl is None else kl, states=one)


def test_the_policys_loss_alone(part: ScoredBatch, settings: LearnerSettings) -> None:
    found = objective(part, _new(), settings)
    # -(2 - 1) / 2 replies / 4
    assert found.loss.item() == pytest.approx(-0.125)
    assert found.policy.ratio_mean.item() == 1.0


def test_the_kl_is_over_all_tokens(part: ScoredBatch, settings: LearnerSettings) -> None:
    # the disliked reply is dropped, but drifts all the same
    part = replace(part, kept=torch.tensor([[True], [False]]))
    full_kl = torch.tensor([[1.0], [3.0]])
    found = objective(part, _new(full_kl), settings)
    # -2 / 2 / 4 and 0.1 · 4 / 2 / 5
    assert found.loss.item() == pytest.approx(-0.25 + 0.04)


def test_the_nudge_is_towards_what_is_liked(part: ScoredBatch, settings: LearnerSettings) -> None:
    nudged = settings.model_copy(update={"nudge": 0.5})
    found = objective(part, _new(), nudged)
    # 0.5 · 1 / 2 / 4 more
    assert found.loss.item() == pytest.approx(-0.125 + 0.0625)


def test_the_critics_error(part: ScoredBatch, settings: LearnerSettings) -> None:
    values = torch.tensor([[0.1], [0.2]])
    found = objective(part, _new(), settings, values)
    # ½ (0.9² + 0.8²) / 2 / 4 more
    assert found.loss.item() == pytest.approx(-0.125 + 0.090625)
