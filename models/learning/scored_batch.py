"""A batch with the weights and advantages that stay fixed during the epochs."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from models.ppo.critic import gae
from models.ppo.lengths import length_divisors
from models.ppo.losses import behaviour_weights, keep_sequences
from models.ppo.masked import masked_sum, whiten
from models.ppo.rewards import article_returns, kl_rewards, token_rewards

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from models.learning.state import LearnerState
    from models.policy.batch import MicroBatch
    from models.recipe import Recipe
    from models.types import Sample

WHITEN_FROM = 16
"""Scores are divided by their standard deviation from this number of votes on."""
WHITEN_FLOOR = 0.25
GAMMA, LAMBDA = 1.0, 0.95
"""Discount and λ of the critic's advantages, as in TRL's PPO."""


@dataclass(frozen=True, slots=True)
class StartScores:
    """What the models compute of the replies before the first step, ``[B, T]``.

    Attributes:
        start: Log-probs under the parent version.
        kl: KL of the parent to the base, over whole distributions or of the sampled tokens.
        values: The critic's values; 0 without a critic.
        reference_states: The base's states for the tokens of each reply, ``[T_b, H]`` each.
    """

    start: torch.Tensor
    kl: torch.Tensor
    values: torch.Tensor
    reference_states: Sequence[torch.Tensor] = ()

    def cut(self, micro: MicroBatch) -> StartScores:
        """Return the rows and columns of ``micro``."""
        rows, width = list(micro.rows), micro.mask.shape[1]
        return StartScores(
            start=self.start[rows, :width],
            kl=self.kl[rows, :width],
            values=self.values[rows, :width],
            reference_states=[self.reference_states[row] for row in rows],
        )


@dataclass(frozen=True, slots=True)
class Credit:
    """What the votes say about replies and tokens.

    Attributes:
        advantages: How much better than expected each token was, ``[B, T]``.
        signs: Below 0 for a reply that should become less likely, ``[B]``.
        returns: What the critic learns, ``[B, T]``; 0 without a critic.
    """

    advantages: torch.Tensor
    signs: torch.Tensor
    returns: torch.Tensor


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """A batch with everything that stays fixed during the epochs; tensors are ``[B, T]``.

    Attributes:
        batch: The replies.
        at_start: What the models computed of them at the start.
        weights: How much a token counts; less or more than 1 if its reply is stale.
        kept: True where a token is learned from.
        advantages: From ``Credit``.
        returns: From ``Credit``.
        divisors: Divide the sums over kept tokens, ``[B]``; set by ``minibatch``.
        all_divisors: Divide the sums over all tokens, ``[B]``; set by ``minibatch``.
        beta: What a nat of KL to the base costs in this batch.
        loss_beta: What it costs in the loss; 0 if the KL is in rewards or returns.
        together: How many rows in a row are replies to the same question. They stay together in
            minibatches and passes, so that a pass reads the question once.
    """

    batch: MicroBatch
    at_start: StartScores
    weights: torch.Tensor
    kept: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    divisors: torch.Tensor
    all_divisors: torch.Tensor
    beta: float
    loss_beta: float
    together: int = 1

    def minibatch(self, rows: Sequence[int], recipe: Recipe) -> Self:
        """Return the same batch with the divisors of one optimiser step over ``rows``."""
        index = list(rows)
        divisors, all_divisors = self.divisors.clone(), self.all_divisors.clone()
        for out_B, mask_BT in ((divisors, self.kept), (all_divisors, self.batch.mask)):
            out_B[index] = length_divisors(
                mask_BT[index], form=recipe.length_form, constant=recipe.length_constant
            )
        return replace(self, divisors=divisors, all_divisors=all_divisors)

    def cut(self, micro: MicroBatch) -> ScoredBatch:
        """Return the rows and columns of ``micro``."""
        rows, width = list(micro.rows), micro.mask.shape[1]
        return ScoredBatch(
            batch=micro,
            at_start=self.at_start.cut(micro),
            weights=self.weights[rows, :width],
            kept=self.kept[rows, :width],
            advantages=self.advantages[rows, :width],
            returns=self.returns[rows, :width],
            divisors=self.divisors[rows],
            all_divisors=self.all_divisors[rows],
            beta=self.beta,
            loss_beta=self.loss_beta,
        )

    def reference_hidden(self) -> torch.Tensor | None:
        """Return the base's states row by row, ``[kept, H]``; None if the loss has no KL."""
        return torch.cat(list(self.at_start.reference_states)) if self.loss_beta else None


def score_batch(
    samples: Sequence[Sample],
    batch: MicroBatch,
    at_start: StartScores,
    state: LearnerState,
    recipe: Recipe,
    baselines: Sequence[float] | None = None,
) -> ScoredBatch:
    """Compute weights and advantages from what the models compute at the start of an update."""
    start = at_start.start
    rewards_B = torch.tensor([s.reward for s in samples], device=start.device)
    beta = kl.coefficient(
        masked_sum(at_start.kl, batch.mask).mean().item(),
        target=recipe.kl_target,
        at_target=recipe.kl_coefficient,
        power=recipe.kl_power,
    )
    credit = _credit(samples, rewards_B, batch.mask, at_start, beta, state, recipe, baselines)
    greedy_B = torch.tensor([s.temperature == 0 for s in samples], device=start.device)
    behaviour = torch.where(greedy_B[:, None], start, batch.behaviour)
    weights = torch.ones_like(start)
    if recipe.stale_votes == "decoupled":
        weights = behaviour_weights(start, behaviour, cap=recipe.behaviour_cap)
    chosen = batch.mask & ~_forced(samples, batch.mask)
    keep_B = keep_sequences(credit.signs, start, behaviour, chosen, limit=recipe.max_drift)
    return ScoredBatch(
        batch=batch,
        at_start=at_start,
        weights=weights,
        kept=chosen & keep_B[:, None],
        advantages=credit.advantages,
        returns=credit.returns,
        divisors=torch.ones_like(rewards_B),
        all_divisors=torch.ones_like(rewards_B),
        beta=beta,
        loss_beta=beta if recipe.kl_form == "loss" else 0.0,
    )


def _forced(samples: Sequence[Sample], like: torch.Tensor) -> torch.Tensor:
    """Return True for tokens that a grammar forced, ``[B, T]``: the policy had no choice."""
    out = torch.zeros_like(like)
    for row, sample in enumerate(samples):
        out[row, list(sample.forced)] = True
    return out


def _credit(
    samples: Sequence[Sample],
    rewards_B: torch.Tensor,
    mask: torch.Tensor,
    at_start: StartScores,
    beta: float,
    state: LearnerState,
    recipe: Recipe,
    baselines: Sequence[float] | None,
) -> Credit:
    in_reward = beta if recipe.kl_form == "reward" else 0.0
    if recipe.advantage == "critic":
        rewards = token_rewards(rewards_B, at_start.kl, mask, beta=in_reward)
        return _by_critic(rewards, at_start.values, mask)
    scores_B = _scores(samples, rewards_B, state, recipe, baselines)
    if recipe.kl_form in {"weighted", "added"}:
        found = article_returns(scores_B, at_start.kl, mask, form=recipe.kl_form, beta=beta)
    else:
        to_go = reward_to_go(kl_rewards(at_start.kl, mask, beta=in_reward), mask)
        found = token_advantages(scores_B, to_go, mask)
    return Credit(found, signs=scores_B, returns=torch.zeros_like(found))


def _by_critic(rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> Credit:
    """Return the credit of token rewards by the critic."""
    surprise = gae(rewards, values, mask, gamma=GAMMA, lam=LAMBDA)
    enough = len(rewards) >= WHITEN_FROM
    # Centring would turn some likes into dislikes where all votes are likes.
    scaled = whiten(surprise, mask, floor=WHITEN_FLOOR, centre=False) if enough else surprise
    return Credit(scaled, signs=masked_sum(scaled, mask), returns=surprise + values)


def _scores(
    samples: Sequence[Sample],
    rewards_B: torch.Tensor,
    state: LearnerState,
    recipe: Recipe,
    baselines: Sequence[float] | None,
) -> torch.Tensor:
    """Return how much better than its baseline each reply was, ``[B]``."""
    if recipe.advantage == "none":
        return rewards_B
    if baselines is not None:
        found_B = rewards_B - rewards_B.new_tensor(baselines)
        return scale_scores(found_B, least_votes=WHITEN_FROM, floor=WHITEN_FLOOR)
    users = [s.user for s in samples]
    others_B = leave_one_out(rewards_B)
    baseline_B = shrunken_baseline(others_B, users, state.users, prior=recipe.user_prior)
    return scale_scores(rewards_B - baseline_B, least_votes=WHITEN_FROM, floor=WHITEN_FLOOR)
