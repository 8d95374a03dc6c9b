"""A batch as it stands at the start of an update: weights and advantages, fixed for all epochs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.ppo import kl
from models.ppo.advantages import (
    leave_one_out,
    reward_to_go,
    scale_scores,
    shrunken_baseline,
    token_advantages,
)
from models.ppo.losses import behaviour_weights, keep_sequences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.batch import MicroBatch
    from models.learner_state import LearnerState
    from models.settings import LearnerSettings
    from models.types import Sample

WHITEN_FROM = 16
"""Votes from which the batch's standard deviation is known well enough to divide by."""
WHITEN_FLOOR = 0.25
DRIFT_LIMIT = 0.5
"""Nats a token of drift beyond which a disliked reply is dropped."""


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """A batch with everything that stays fixed during the epochs; tensors are ``[B, T]``.

    ``loss_beta`` is what the loss multiplies the KL to the base with; 0 when the reward has it.
    ``reference_states`` are the base's states of each reply's tokens, ``[T_b, H]`` each.
    """

    batch: MicroBatch
    start: torch.Tensor
    reference: torch.Tensor
    weights: torch.Tensor
    kept: torch.Tensor
    advantages: torch.Tensor
    loss_beta: float
    reference_states: Sequence[torch.Tensor] = ()

    def cut(self, micro: MicroBatch) -> ScoredBatch:
        """Return the rows and columns of ``micro``."""
        rows, width = list(micro.rows), micro.mask.shape[1]
        return ScoredBatch(
            batch=micro,
            start=self.start[rows, :width],
            reference=self.reference[rows, :width],
            weights=self.weights[rows, :width],
            kept=self.kept[rows, :width],
            advantages=self.advantages[rows, :width],
            loss_beta=self.loss_beta,
            reference_states=[self.reference_states[row] for row in rows],
        )

    def reference_hidden(self) -> torch.Tensor | None:
        """Return the base's states row by row, ``[kept, H]``; None where the loss needs none."""
        return torch.cat(list(self.reference_states)) if self.loss_beta else None


def score_batch(
    samples: Sequence[Sample],
    batch: MicroBatch,
    start: torch.Tensor,
    reference: torch.Tensor,
    state: LearnerState,
    settings: LearnerSettings,
    reference_states: Sequence[torch.Tensor] = (),
) -> ScoredBatch:
    """Compute weights and advantages from log-probs ``[B, T]`` taken at the start of an update."""
    rewards_B = torch.tensor([s.reward for s in samples], device=start.device)
    baseline_B = shrunken_baseline(
        leave_one_out(rewards_B), [s.user for s in samples], state.users, prior=settings.user_prior
    )
    scores_B = scale_scores(rewards_B - baseline_B, least_votes=WHITEN_FROM, floor=WHITEN_FLOOR)
    greedy_B = torch.tensor([s.temperature == 0 for s in samples], device=start.device)
    behaviour = torch.where(greedy_B[:, None], start, batch.behaviour)
    keep_B = keep_sequences(scores_B, start, behaviour, batch.mask, limit=DRIFT_LIMIT)
    in_loss = settings.kl_form == "loss"
    reward_beta = 0.0 if in_loss else state.beta
    to_go = reward_to_go(-reward_beta * kl.k1(start, reference), batch.mask)
    return ScoredBatch(
        batch=batch,
        start=start,
        reference=reference,
        weights=behaviour_weights(start, behaviour, cap=settings.behaviour_cap),
        kept=batch.mask & keep_B[:, None],
        advantages=token_advantages(scores_B, to_go, batch.mask),
        loss_beta=state.beta if in_loss else 0.0,
        reference_states=reference_states,
    )
