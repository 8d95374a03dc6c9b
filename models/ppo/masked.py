"""Statistics over the kept entries of padded tensors.

Masks are True where an entry counts. Masked entries may have any value, infinity and NaN included.
No function returns NaN for finite kept entries, even if there are none.
"""

from __future__ import annotations

import torch


def masked_sum(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Return the sum of each row's kept entries, ``[B, T]`` to ``[B]``."""
    return values_BT.masked_fill(~mask_BT, 0.0).sum(-1)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean of all kept entries of a tensor of any shape; 0 if none is kept."""
    kept = mask.sum().clamp(min=1)
    return values.masked_fill(~mask, 0.0).sum() / kept


def masked_variance(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the variance of the kept entries of a tensor of any shape; 0 if none is kept.

    The divisor is n, because n - 1 would give 0 / 0 for one entry.
    """
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


def whiten(
    values: torch.Tensor, mask: torch.Tensor, *, floor: float, centre: bool = True
) -> torch.Tensor:
    """Divide entries of any shape by their standard deviation; masked entries become 0.

    Args:
        values: The entries to whiten.
        mask: True where an entry counts.
        floor: The least divisor, > 0, so that nearly equal entries are not amplified.
        centre: Whether the mean is subtracted first. A single entry then becomes 0; otherwise it is
            divided by ``floor``.
    """
    divisor = masked_variance(values, mask).sqrt().clamp(min=floor)
    centred = values - masked_mean(values, mask) if centre else values
    return (centred / divisor).masked_fill(~mask, 0.0)


def effective_sample_size(weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return (Σw)² / (n Σw²) over the kept weights, which are not negative; 0 if none is kept.

    This is Kish's effective sample size divided by n, in (0, 1]. It is 1 if all weights are equal;
    a small value precedes a collapse (arXiv 2602.17616).
    """
    kept = weights.masked_fill(~mask, 0.0)
    # Divided by the largest weight, so that squares of very small weights do not underflow.
    shares = kept / kept.max().clamp(min=torch.finfo(kept.dtype).tiny)
    squares = (shares**2).sum() * mask.sum()
    return shares.sum() ** 2 / squares.clamp(min=1.0)


def mean_reply_sum(
    values_BT: torch.Tensor, mask_BT: torch.Tensor, length_constant: float | torch.Tensor
) -> torch.Tensor:
    """Return mean_b (Σ_t values / length_constant_b): the reduction of every loss to a scalar.

    Args:
        values_BT: The values of the tokens.
        mask_BT: True where a token counts.
        length_constant: The number of tokens that weigh 1 together: one number for all replies, or
            ``[B]`` from ``length_divisors``.
    """
    return (masked_sum(values_BT, mask_BT) / length_constant).mean()
