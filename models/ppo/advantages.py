"""How much better than expected a reply was: by the batch, the user's past, or other replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.ppo.masked import masked_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


FORGOTTEN = 0.01
"""Votes below which a user's past says nothing any more."""


@dataclass(frozen=True, slots=True)
class UserMean:
    """A user's running reward: ``total`` over ``count`` votes, older ones counting less."""

    total: float
    count: float


def leave_one_out(rewards_B: torch.Tensor) -> torch.Tensor:
    """Return for each reply the mean reward of the others, ``[…, B]``; 0 for a single one.

    RLOO, arXiv 2402.14740; where there is one reply to a prompt, with the batch in their place.
    """
    others = rewards_B.shape[-1] - 1
    if others == 0:
        return torch.zeros_like(rewards_B)
    return (rewards_B.sum(-1, keepdim=True) - rewards_B) / others


def shrunken_baseline(
    batch_B: torch.Tensor,
    users: Sequence[str],
    past: Mapping[str, UserMean],
    *,
    prior: float,
) -> torch.Tensor:
    """Mix each user's past mean with the batch's baseline, ``[B]``.

    Args:
        batch_B: The batch's baseline.
        users: Who voted on each reply.
        past: Running means before this batch, so that no reply that is new is its own baseline.
        prior: How many past votes weigh as much as the batch's baseline.
    """
    means = [past.get(user, UserMean(0.0, 0.0)) for user in users]
    total = batch_B.new_tensor([m.total for m in means])
    count = batch_B.new_tensor([m.count for m in means])
    return (total + prior * batch_B) / (count + prior)


def update_user_means(
    past: Mapping[str, UserMean],
    users: Sequence[str],
    rewards: Sequence[float],
    *,
    decay: float,
) -> dict[str, UserMean]:
    """Return the running means after a batch; what came before is multiplied by ``decay``.

    A user whose past has faded to less than ``FORGOTTEN`` votes is left out.
    """
    faded = {u: UserMean(m.total * decay, m.count * decay) for u, m in past.items()}
    means = {user: mean for user, mean in faded.items() if mean.count >= FORGOTTEN}
    for user, reward in zip(users, rewards, strict=True):
        mean = means.get(user, UserMean(0.0, 0.0))
        means[user] = UserMean(mean.total + reward, mean.count + 1)
    return means


def reward_to_go(rewards_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Return Σ of each token's own and later rewards, ``[B, T]`` (γ = 1); 0 where masked out."""
    kept = rewards_BT.masked_fill(~mask_BT, 0.0)
    return kept.flip(-1).cumsum(-1).flip(-1).masked_fill(~mask_BT, 0.0)


def token_advantages(
    scores_B: torch.Tensor, kl_to_go_BT: torch.Tensor, mask_BT: torch.Tensor
) -> torch.Tensor:
    """Join what the vote says of a reply with what the KL penalty says of each token, ``[B, T]``.

    The score stands at the last token, so with γ = 1 every token has it as reward-to-go. The KL
    part is centred over the batch's tokens: a constant there only adds variance.
    """
    centred = kl_to_go_BT - masked_mean(kl_to_go_BT, mask_BT)
    return (scores_B[:, None] + centred).masked_fill(~mask_BT, 0.0)


def scale_scores(scores_B: torch.Tensor, *, least_votes: int, floor: float) -> torch.Tensor:
    """Divide by the batch's standard deviation, once there are enough votes to know it.

    ``floor`` bounds the divisor from below, so that a batch of nearly equal votes is not blown up.
    """
    if scores_B.numel() < least_votes:
        return scores_B
    return scores_B / scores_B.std(correction=0).clamp(min=floor)


def among_replies(
    expected_B: torch.Tensor, *, replies: int, spread: float, floor: float
) -> torch.Tensor:
    """Return how much better each reply is than the others to the same question, ``[B]``.

    RLOO (arXiv 2402.14740), then scaled so that the standard deviation of all is ``spread``.

    Args:
        expected_B: Rewards; a question's replies follow one another.
        replies: To each question, at least two.
        spread: The standard deviation afterwards.
        floor: Rewards that differ by less are scaled as if they differed by this much.
    """
    of_question = expected_B.view(-1, replies)
    better = (of_question - leave_one_out(of_question)).flatten()
    return spread * scale_scores(better, least_votes=1, floor=floor)
