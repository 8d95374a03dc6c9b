"""The decoupled clipped policy loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.ppo.masked import masked_mean, masked_sum, mean_reply_sum

if TYPE_CHECKING:
    import torch

MAX_LOG_RATIO = 20.0
"""Beyond e^20 nothing is learned from a ratio; e^89 is infinite in fp32, and 0 · ∞ is NaN."""


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """The loss to minimise, and what it saw of the kept tokens.

    Attributes:
        loss: A scalar; the only one that carries a gradient.
        clip_fraction: Share of tokens whose ratio was held.
        ratio_mean: Mean of ρ; far from 1, the epochs have gone far.
        ratio_max: Largest ρ.
    """

    loss: torch.Tensor
    clip_fraction: torch.Tensor
    ratio_mean: torch.Tensor
    ratio_max: torch.Tensor


def behaviour_weights(
    start_BT: torch.Tensor, behaviour_BT: torch.Tensor, *, cap: float
) -> torch.Tensor:
    """Return min(π_start / π_behaviour, cap), ``[B, T]``, with no gradient.

    What the votes of an older version, or of a truncated distribution, count for now (decoupled
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
    """Return True, ``[B]``, for replies worth learning from.

    A disliked reply that the policy has moved away from by more than ``limit`` nats a token on
    average is dropped: pushing it down further only destabilises (DeepSeek-V3.2 report,
    arXiv 2512.02556, "off-policy sequence masking"; there the policy is the one of each step, here
    the one at the start of the update, so that a reply is in all epochs or in none).

    Args:
        scores_B: Sign of the reply's advantage.
        start_BT: Log-probs under the policy at the start of the update.
        behaviour_BT: Log-probs when the tokens were sampled.
        mask_BT: True where a token counts; a reply that keeps nothing has drifted by 0.
        limit: Nats a token; infinity keeps all.
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
    """PPO's clipped surrogate with a weight for stale samples, summed over tokens.

    ``-w · min(ρ A, clip(ρ, 1 - clip, 1 + clip_high) A)`` with ρ = π_new / π_start (arXiv
    1707.06347 eq. 7; two bounds: arXiv 2503.14476 §3.1; the weight: arXiv 2110.00641). The sum over
    a reply's tokens is divided by a constant, not by its length, so that long bad replies are not
    let off; then averaged over the ``B`` replies.
    With R for A and a weight of 1 it is the article's loss.

    Args:
        new_BT: Log-probs under the policy being learned; carries the gradient.
        start_BT: Log-probs under the policy at the start of the update, which the ratio is taken
            against.
        advantages_BT: From ``token_advantages``, ``gae`` or ``article_returns``.
        weights_BT: From ``behaviour_weights``, or ones.
        mask_BT: True where a token counts.
        clip: How far below 1 the ratio is free.
        clip_high: How far above; None for as far as below.
        length_constant: Tokens that weigh 1 together: for all replies, or ``[B]`` from
            ``length_divisors`` for other ways to weigh lengths.
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
