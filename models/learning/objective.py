"""What one optimiser step minimises: the policy's loss with what the settings add to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.ppo.critic import critic_loss
from models.ppo.likelihood import likelihood_loss
from models.ppo.losses import PolicyLoss, policy_loss
from models.ppo.masked import mean_reply_sum

if TYPE_CHECKING:
    import torch

    from models.learning.scored_batch import ScoredBatch
    from models.policy.policy import ReplyScores
    from models.settings import LearnerSettings

VALUE_CLIP = 0.2
"""Most that a value may move in one update (TRL's PPO)."""


@dataclass(frozen=True, slots=True)
class Objective:
    """The sum to minimise, and the part of it that is PPO's."""

    loss: torch.Tensor
    policy: PolicyLoss


def objective(
    part: ScoredBatch,
    new: ReplyScores,
    settings: LearnerSettings,
    values: torch.Tensor | None = None,
) -> Objective:
    """Return L_policy + β KL + nudge L_likelihood + L_critic of one micro-batch.

    The KL is over all tokens of all replies; the rest is over those that are learned from. The
    critic's loss needs no coefficient, as only the critic's head has a gradient of it. A
    minibatch's loss is the mean of its micro-batches', weighted by their replies.

    Args:
        part: What stays fixed.
        new: What the policy being learned makes of it; carries the gradient.
        settings: Which parts there are.
        values: Of the critic being learned, ``[B, T]``; None without one.
    """
    policy = policy_loss(
        new.logprobs,
        part.proximal,
        part.advantages,
        part.weights,
        part.kept,
        clip=settings.clip,
        clip_high=settings.clip_high,
        length_constant=part.divisors,
    )
    loss = policy.loss
    if part.loss_beta:
        kl = mean_reply_sum(new.kl, part.batch.mask, part.all_divisors)
        loss = loss + part.loss_beta * kl
    if settings.nudge:
        liked = likelihood_loss(
            new.logprobs, part.approvals, part.kept, length_constant=part.divisors
        )
        loss = loss + settings.nudge * liked
    if values is not None:
        loss = loss + critic_loss(
            values,
            part.at_start.values,
            part.returns,
            part.kept,
            clip=VALUE_CLIP,
            length_constant=part.divisors,
        )
    return Objective(loss, policy)
