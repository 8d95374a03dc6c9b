"""Learning from replies that people wrote by making them likelier, without a ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.ppo.masked import mean_reply_sum

if TYPE_CHECKING:
    import torch


def likelihood_loss(
    new_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    length_constant: float | torch.Tensor,
) -> torch.Tensor:
    """Return -mean_b (Σ_t log π_new / length constant): maximum likelihood.

    It needs no behaviour log-probs, so that corrections, which people wrote, can be learned.

    Args:
        new_BT: Log-probs under the policy being learned; carries the gradient.
        mask_BT: True where a token counts.
        length_constant: See ``mean_reply_sum``.
    """
    # Filled before the sum, so that NaN where masked out does not reach the gradient.
    return mean_reply_sum(-new_BT.masked_fill(~mask_BT, 0.0), mask_BT, length_constant)
