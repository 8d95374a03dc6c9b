"""The decoupled clipped policy loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.ppo.masked import masked_mean, masked_sum

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """The loss to minimise, and the share of kept tokens whose ratio was clipped."""

    loss: torch.Tensor
    clip_fraction: torch.Tensor


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
    average is dropped: pushing it down further only destabilises (DeepSeek-V3.2 report).
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
    length_constant: float,
) -> PolicyLoss:
    """PPO's clipped surrogate with a weight for stale samples, summed over tokens.

    ``-w · min(ρ A, clip(ρ, 1 ± clip) A)`` with ρ = π_new / π_start (arXiv 1707.06347 eq. 7; the
    weight: arXiv 2110.00641). The sum over a reply's tokens is divided by a constant, not by its
    length, so that long bad replies are not let off; then averaged over the ``B`` replies.

    Args:
        new_BT: Log-probs under the policy being learned; carries the gradient.
        start_BT: Log-probs under the policy at the start of the update.
        advantages_BT: From ``token_advantages``.
        weights_BT: From ``behaviour_weights``.
        mask_BT: True where a token counts.
        clip: Half-width of the ratio's free range.
        length_constant: Tokens that weigh 1 together.
    """
    ratio = (new_BT - start_BT).masked_fill(~mask_BT, 0.0).exp()
    free = ratio * advantages_BT
    clipped = ratio.clamp(1 - clip, 1 + clip) * advantages_BT
    surrogate = weights_BT * free.minimum(clipped)
    loss = -masked_sum(surrogate, mask_BT).mean() / length_constant
    clipped_share = masked_mean((clipped < free).to(ratio.dtype), mask_BT)
    return PolicyLoss(loss=loss, clip_fraction=clipped_share.detach())
