"""A batch as it stands at the start of an update: weights and advantages, fixed for all epochs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from models.ppo import kl
from models.ppo.advantages import (
    batch_mean,
    leave_one_out,
    reward_to_go,
    scale_scores,
    shrunken_baseline,
    token_advantages,
    weigh_by_probability,
)
from models.ppo.critic import gae
from models.ppo.lengths import length_divisors
from models.ppo.likelihood import approvals
from models.ppo.losses import keep_sequences, old_policy
from models.ppo.masked import masked_sum, whiten
from models.ppo.rewards import (
    article_returns,
    kl_rewards,
    penalise_missing_end,
    token_rewards,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from models.learning.state import LearnerState
    from models.policy.batch import MicroBatch
    from models.settings import LearnerSettings
    from models.types import Sample

WHITEN_FROM = 16
"""Votes from which the batch's standard deviation is known well enough to divide by."""
WHITEN_FLOOR = 0.25
GAMMA, LAMBDA = 1.0, 0.95
"""Of the critic's advantages; TRL's PPO has the same."""


@dataclass(frozen=True, slots=True)
class StartScores:
    """What the models say of the replies before the first step, ``[B, T]``.

    Attributes:
        start: Log-probs under the parent version.
        kl: KL of the parent to the base, over whole distributions or of the sampled tokens.
        values: Of the critic; 0 without one.
        reference_states: The base's states of each reply's tokens, ``[T_b, H]`` each.
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
    """What the votes say of replies and tokens.

    Attributes:
        advantages: How much better than expected each token was, ``[B, T]``.
        signs: Below 0 for a reply that is to become less likely, ``[B]``.
        returns: What the critic learns, ``[B, T]``; 0 without one.
    """

    advantages: torch.Tensor
    signs: torch.Tensor
    returns: torch.Tensor


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """A batch with everything that stays fixed during the epochs; tensors are ``[B, T]``.

    Attributes:
        batch: The replies.
        at_start: What the models said of them.
        proximal: What ratios are taken against.
        weights: What a token counts for, as its reply may be stale.
        kept: True where a token is learned from.
        advantages: From ``Credit``, weighed by the probabilities of the tokens.
        returns: Likewise.
        approvals: What the nudge counts each reply for, ``[B]``.
        divisors: Of the sums over kept tokens, ``[B]``; set by ``minibatch``.
        all_divisors: The same of the sums over all tokens.
        beta: What a nat of KL to the base costs in this batch.
        loss_beta: The same in the loss; 0 when the reward has it.
        together: So many rows after one another are replies to one question: they stay together in
            minibatches and passes, which read it once for all of them.
    """

    batch: MicroBatch
    at_start: StartScores
    proximal: torch.Tensor
    weights: torch.Tensor
    kept: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    approvals: torch.Tensor
    divisors: torch.Tensor
    all_divisors: torch.Tensor
    beta: float
    loss_beta: float
    together: int = 1

    def minibatch(self, rows: Sequence[int], settings: LearnerSettings) -> Self:
        """Return the same batch with the divisors of one optimiser step over ``rows``."""
        index = list(rows)
        divisors, all_divisors = self.divisors.clone(), self.all_divisors.clone()
        for out_B, mask_BT in ((divisors, self.kept), (all_divisors, self.batch.mask)):
            out_B[index] = length_divisors(
                mask_BT[index], form=settings.length_form, constant=settings.length_constant
            )
        return replace(self, divisors=divisors, all_divisors=all_divisors)

    def cut(self, micro: MicroBatch) -> ScoredBatch:
        """Return the rows and columns of ``micro``."""
        rows, width = list(micro.rows), micro.mask.shape[1]
        return ScoredBatch(
            batch=micro,
            at_start=self.at_start.cut(micro),
            proximal=self.proximal[rows, :width],
            weights=self.weights[rows, :width],
            kept=self.kept[rows, :width],
            advantages=self.advantages[rows, :width],
            returns=self.returns[rows, :width],
            approvals=self.approvals[rows],
            divisors=self.divisors[rows],
            all_divisors=self.all_divisors[rows],
            beta=self.beta,
            loss_beta=self.loss_beta,
        )

    def reference_hidden(self) -> torch.Tensor | None:
        """Return the base's states row by row, ``[kept, H]``; None where the loss needs none."""
        return torch.cat(list(self.at_start.reference_states)) if self.loss_beta else None


def score_batch(
    samples: Sequence[Sample],
    batch: MicroBatch,
    at_start: StartScores,
    state: LearnerState,
    settings: LearnerSettings,
) -> ScoredBatch:
    """Compute weights and advantages from what the models say at the start of an update."""
    start = at_start.start
    rewards_B = rewards_of(samples, settings).to(start.device)
    beta = kl.coefficient(
        masked_sum(at_start.kl, batch.mask).mean().item(),
        target=settings.kl_target,
        at_target=settings.kl_coefficient,
        power=settings.kl_power,
    )
    credit = _credit(samples, rewards_B, batch.mask, at_start, beta, state, settings)
    greedy_B = torch.tensor([s.temperature == 0 for s in samples], device=start.device)
    behaviour = torch.where(greedy_B[:, None], start, batch.behaviour)
    old = old_policy(start, behaviour, correction=settings.stale_votes, cap=settings.behaviour_cap)
    keep_B = keep_sequences(credit.signs, start, behaviour, batch.mask, limit=settings.max_drift)
    return ScoredBatch(
        batch=batch,
        at_start=at_start,
        proximal=old.proximal,
        weights=old.weights,
        kept=batch.mask & keep_B[:, None],
        advantages=weigh_by_probability(
            credit.advantages, start, share=settings.probability_weight
        ),
        returns=credit.returns,
        approvals=approvals(torch.tensor([s.reward for s in samples], device=start.device)),
        divisors=torch.ones_like(rewards_B),
        all_divisors=torch.ones_like(rewards_B),
        beta=beta,
        loss_beta=beta if settings.kl_form == "loss" else 0.0,
    )


def rewards_of(samples: Sequence[Sample], settings: LearnerSettings) -> torch.Tensor:
    """Return what replies are worth before any baseline, ``[B]``: votes, less what a cut costs."""
    votes_B = torch.tensor([s.reward for s in samples])
    ended_B = torch.tensor([s.ended for s in samples])
    return penalise_missing_end(votes_B, ended_B, penalty=settings.missing_end_penalty)


def _credit(
    samples: Sequence[Sample],
    rewards_B: torch.Tensor,
    mask: torch.Tensor,
    at_start: StartScores,
    beta: float,
    state: LearnerState,
    settings: LearnerSettings,
) -> Credit:
    in_reward = beta if settings.kl_form == "reward" else 0.0
    if settings.advantage == "critic":
        rewards = token_rewards(rewards_B, at_start.kl, mask, beta=in_reward)
        return _judged(rewards, at_start.values, mask)
    scores_B = _scores(samples, rewards_B, state, settings)
    if settings.kl_form in {"weighted", "added"}:
        found = article_returns(scores_B, at_start.kl, mask, form=settings.kl_form, beta=beta)
    else:
        to_go = reward_to_go(kl_rewards(at_start.kl, mask, beta=in_reward), mask)
        found = token_advantages(scores_B, to_go, mask)
    return Credit(found, signs=scores_B, returns=torch.zeros_like(found))


def _judged(rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> Credit:
    """Return what the critic makes of token rewards."""
    surprise = gae(rewards, values, mask, gamma=GAMMA, lam=LAMBDA)
    enough = len(rewards) >= WHITEN_FROM
    # Not centred: that would turn the likes of a batch of likes into dislikes.
    scaled = whiten(surprise, mask, floor=WHITEN_FLOOR, centre=False) if enough else surprise
    return Credit(scaled, signs=masked_sum(scaled, mask), returns=surprise + values)


def _scores(
    samples: Sequence[Sample],
    rewards_B: torch.Tensor,
    state: LearnerState,
    settings: LearnerSettings,
) -> torch.Tensor:
    """Return how much better than its baseline each reply was, ``[B]``."""
    if settings.advantage == "none":
        return rewards_B
    if settings.advantage == "batch_mean":
        baseline_B = batch_mean(rewards_B)
    else:
        users = [s.user for s in samples]
        baseline_B = shrunken_baseline(
            leave_one_out(rewards_B), users, state.users, prior=settings.user_prior
        )
    return scale_scores(rewards_B - baseline_B, least_votes=WHITEN_FROM, floor=WHITEN_FLOOR)
