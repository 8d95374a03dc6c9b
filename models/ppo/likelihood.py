"""Learning from approved replies by making them likelier, without a ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.ppo.masked import mean_reply_sum

if TYPE_CHECKING:
    import torch


def approvals(rewards_B: torch.Tensor) -> torch.Tensor:
    """Return how far each reply is approved of, ``[B]``: its reward, or 0 if that is negative."""
    return rewards_B.clamp(min=0.0)


def likelihood_loss(
    new_BT: torch.Tensor,
    approvals_B: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    length_constant: float | torch.Tensor,
) -> torch.Tensor:
    """Return -mean_b (approval_b Σ_t log π_new / length constant): weighted maximum likelihood.

    Of voted replies it is the "affirmative nudge" (arXiv 2603.17378), and with binary votes the
    filtered fine-tuning of ReSpect (arXiv 2410.13852). It needs no behaviour log-probs, so it is
    the loss of a correction that a person wrote, too: with an approval of 1.

    Args:
        new_BT: Log-probs under the policy being learned; carries the gradient.
        approvals_B: From ``approvals``; a reply with 0 is not pushed anywhere.
        mask_BT: True where a token counts.
        length_constant: See ``mean_reply_sum``.
    """
    # Filled before the product, so that NaN where masked out does not reach the gradient.
    kept_BT = new_BT.masked_fill(~mask_BT, 0.0)
    return mean_reply_sum(-approvals_B[:, None] * kept_BT, mask_BT, length_constant)
