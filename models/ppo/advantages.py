"""Baselines and advantages: the reward of a reply, minus what was expected of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.ppo.masked import masked_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


MIN_PAST_VOTES = 0.01
"""The decayed number of votes below which a user's running mean is dropped."""


@dataclass(frozen=True, slots=True)
class UserMean:
    """A user's decayed running mean of rewards: ``total`` divided by ``count`` votes."""

    total: float
    count: float


def leave_one_out(rewards_B: torch.Tensor) -> torch.Tensor:
    """Return for each reply the mean reward of the other replies, ``[…, B]``; 0 without others.

    The baseline of RLOO, arXiv 2402.14740. Where each prompt has one reply, the other replies are
    those of the batch.
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
    """Return the mean of each user's past reward and the batch's baseline, weighted, ``[B]``.

    Args:
        batch_B: The batch's baseline.
        users: The user who voted on each reply.
        past: The users' running means before this batch, so that no reply is its own baseline.
        prior: The number of past votes that weigh as much as the batch's baseline.
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
    """Return the users' running means after a batch.

    Earlier totals and counts are multiplied by ``decay``. A user with fewer than
    ``MIN_PAST_VOTES`` votes left is dropped.
    """
    faded = {u: UserMean(m.total * decay, m.count * decay) for u, m in past.items()}
    means = {user: mean for user, mean in faded.items() if mean.count >= MIN_PAST_VOTES}
    for user, reward in zip(users, rewards, strict=True):
        mean = means.get(user, UserMean(0.0, 0.0))
        means[user] = UserMean(mean.total + reward, mean.count + 1)
    return means


def reward_to_go(rewards_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Return the sum of each token's own and later rewards (γ = 1), ``[B, T]``; 0 if masked."""
    kept = rewards_BT.masked_fill(~mask_BT, 0.0)
    return kept.flip(-1).cumsum(-1).flip(-1).masked_fill(~mask_BT, 0.0)


def token_advantages(
    scores_B: torch.Tensor, kl_to_go_BT: torch.Tensor, mask_BT: torch.Tensor
) -> torch.Tensor:
    """Return the sum of each reply's score and each token's KL reward-to-go, ``[B, T]``.

    The score is a reward of the last token, so with γ = 1 it is in the reward-to-go of every token.
    The KL part is centred over the batch's tokens, because a constant there only adds variance.
    """
    centred = kl_to_go_BT - masked_mean(kl_to_go_BT, mask_BT)
    return (scores_B[:, None] + centred).masked_fill(~mask_BT, 0.0)


def scale_scores(scores_B: torch.Tensor, *, least_votes: int, floor: float) -> torch.Tensor:
    """Divide scores by the batch's standard deviation, ``[B]``.

    Args:
        scores_B: The scores.
        least_votes: The fewest scores to divide; fewer are returned unchanged.
        floor: The least divisor, so that a batch of nearly equal votes is not amplified.
    """
    if scores_B.numel() < least_votes:
        return scores_B
    return scores_B / scores_B.std(correction=0).clamp(min=floor)


def among_replies(
    expected_B: torch.Tensor, *, replies: int, spread: float, floor: float
) -> torch.Tensor:
    """Return the advantage of each reply over the other replies to the same question, ``[B]``.

    RLOO (arXiv 2402.14740), then scaled so that the standard deviation of all is ``spread``.

    Args:
        expected_B: The rewards; the replies to one question are adjacent.
        replies: The number of replies to each question, at least two.
        spread: The standard deviation of the result.
        floor: The least standard deviation that the scaling assumes.
    """
    of_question = expected_B.view(-1, replies)
    better = (of_question - leave_one_out(of_question)).flatten()
    return spread * scale_scores(better, least_votes=1, floor=floor)
