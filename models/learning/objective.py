"""What one optimiser step minimises: the policy's loss with what the recipe adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.ppo.critic import critic_loss
from models.ppo.losses import PolicyLoss, policy_loss
from models.ppo.masked import mean_reply_sum

if TYPE_CHECKING:
    import torch

    from models.learning.scored_batch import ScoredBatch
    from models.policy.policy import ReplyScores
    from models.recipe import Recipe

VALUE_CLIP = 0.2
"""The most that a value may move in one update (as in TRL's PPO)."""


@dataclass(frozen=True, slots=True)
class Objective:
    """The sum to minimise, and its PPO term."""

    loss: torch.Tensor
    policy: PolicyLoss


def objective(
    part: ScoredBatch,
    new: ReplyScores,
    recipe: Recipe,
    values: torch.Tensor | None = None,
) -> Objective:
    """Return L_policy + β KL + L_critic of one micro-batch.

    The KL is over all tokens of all replies. The other terms are over the tokens that are learned
    from. The critic's loss needs no coefficient, because only the critic's head has a gradient from
    it. The loss of a minibatch is the mean over its micro-batches, weighted by their replies.

    Args:
        part: The micro-batch, with all that stays fixed during the epochs.
        new: The scores of the policy being learned; they carry the gradient.
        recipe: Has the bounds of the ratio.
        values: The values of the critic being learned, ``[B, T]``; None without a critic.
    """
    policy = policy_loss(
        new.logprobs,
        part.at_start.start,
        part.advantages,
        part.weights,
        part.kept,
        clip=recipe.clip,
        clip_high=recipe.clip_high,
        length_constant=part.divisors,
    )
    loss = policy.loss
    if part.loss_beta:
        kl = mean_reply_sum(new.kl, part.batch.mask, part.all_divisors)
        loss = loss + part.loss_beta * kl
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
