"""The policy loss: PPO's clipped surrogate, with weights for stale samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.ppo.masked import masked_mean, masked_sum, mean_reply_sum

if TYPE_CHECKING:
    import torch

MAX_LOG_RATIO = 20.0
"""The bound of log ratios: e^89 is infinite in fp32, and 0 · ∞ is NaN."""


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """The loss to minimise, with statistics over the kept tokens, all scalars.

    Attributes:
        loss: The loss; only this field has a gradient.
        clip_fraction: The share of tokens whose ratio was clipped.
        ratio_mean: The mean of ρ; it is far from 1 if the epochs moved the policy far.
        ratio_max: The largest ρ.
    """

    loss: torch.Tensor
    clip_fraction: torch.Tensor
    ratio_mean: torch.Tensor
    ratio_max: torch.Tensor


def behaviour_weights(
    start_BT: torch.Tensor, behaviour_BT: torch.Tensor, *, cap: float
) -> torch.Tensor:
    """Return min(π_start / π_behaviour, cap), ``[B, T]``, without gradient.

    These are the weights of samples from an older version or a truncated distribution (decoupled
    PPO: Hilton, Cobbe, Schulman, arXiv 2110.00641).
    """
    return (start_BT - behaviour_BT).exp().clamp(max=cap).detach()


def keep_sequences(
    scores_B: torch.Tensor,
    start_BT: torch.Tensor,
    behaviour_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    limit: float,
) -> torch.Tensor:
    """Return the mask of replies to learn from, ``[B]``; True keeps.

    A disliked reply is dropped if the policy already moved away from it by more than ``limit`` nats
    per token on average, because pushing it down further only destabilises. This is "off-policy
    sequence masking" (DeepSeek-V3.2 report, arXiv 2512.02556). There the policy is the current one
    of each step; here it is the one at the start of the update, so that a reply is in all epochs
    or in none.

    Args:
        scores_B: The reply's advantage, of which only the sign is read.
        start_BT: The log-probs under the policy at the start of the update.
        behaviour_BT: The log-probs when the tokens were sampled.
        mask_BT: True where a token counts; a reply without kept tokens has a drift of 0.
        limit: The limit in nats per token; infinity keeps all replies.
    """
    lengths = mask_BT.sum(-1).clamp(min=1)
    drift_B = masked_sum(behaviour_BT - start_BT, mask_BT) / lengths
    return (scores_B >= 0) | (drift_B <= limit)


def policy_loss(
    new_BT: torch.Tensor,
    start_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    weights_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    clip: float,
    clip_high: float | None = None,
    length_constant: float | torch.Tensor,
) -> PolicyLoss:
    """Return PPO's clipped surrogate loss, with weights for stale samples.

    ``-w · min(ρ A, clip(ρ, 1 - clip, 1 + clip_high) A)`` with ρ = π_new / π_start (arXiv
    1707.06347 eq. 7; two bounds: arXiv 2503.14476 §3.1; the weight: arXiv 2110.00641). The sum over
    a reply's tokens is divided by a constant instead of its length, so that the tokens of a long
    bad reply keep their weight. The result is the mean over the ``B`` replies. With R for A and
    a weight of 1, this is the article's loss.

    Args:
        new_BT: The log-probs under the policy being learned, through which gradients flow.
        start_BT: The log-probs under the policy at the start of the update, which the ratio is
            taken against.
        advantages_BT: From ``token_advantages``, ``gae`` or ``article_returns``.
        weights_BT: From ``behaviour_weights``, or ones.
        mask_BT: True where a token counts.
        clip: The unclipped range of the ratio below 1.
        clip_high: The unclipped range above 1; None means ``clip``.
        length_constant: See ``mean_reply_sum``.
    """
    log_ratio = (new_BT - start_BT).masked_fill(~mask_BT, 0.0)
    ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    free = ratio * advantages_BT
    high = clip if clip_high is None else clip_high
    clipped = ratio.clamp(1 - clip, 1 + high) * advantages_BT
    surrogate = weights_BT * free.minimum(clipped)
    seen = ratio.detach()
    return PolicyLoss(
        loss=-mean_reply_sum(surrogate, mask_BT, length_constant),
        clip_fraction=masked_mean((clipped < free).to(ratio.dtype), mask_BT).detach(),
        ratio_mean=masked_mean(seen, mask_BT),
        ratio_max=seen.masked_fill(~mask_BT, 0.0).max(),
    )
