"""Statistics over the kept entries of a padded tensor.

Masks are True where an entry counts. What is masked out may be anything, infinities and NaN
included; no function here returns NaN for finite kept entries, however few they are.
"""

from __future__ import annotations

import torch


def masked_sum(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Sum each row's kept entries: ``[B, T]``, True keeps, to ``[B]``."""
    return values_BT.masked_fill(~mask_BT, 0.0).sum(-1)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average all kept entries, of any shape; 0 when none is kept."""
    kept = mask.sum().clamp(min=1)
    return values.masked_fill(~mask, 0.0).sum() / kept


def masked_variance(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean squared distance of the kept entries from their mean, of any shape.

    Divided by n, not by n - 1: 0 for one entry, where the other form is 0 / 0; 0 for none.
    """
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


def whiten(
    values: torch.Tensor, mask: torch.Tensor, *, floor: float, centre: bool = True
) -> torch.Tensor:
    """Divide by the standard deviation of the kept entries, of any shape; 0 where masked out.

    Args:
        values: What to whiten.
        mask: True where an entry counts.
        floor: Least divisor, > 0: entries that are nearly alike are not blown up.
        centre: Whether the mean is taken away first. A single entry is then 0; without, it is
            divided by ``floor``.
    """
    divisor = masked_variance(values, mask).sqrt().clamp(min=floor)
    centred = values - masked_mean(values, mask) if centre else values
    return (centred / divisor).masked_fill(~mask, 0.0)


def effective_sample_size(weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return (Σw)² / (n Σw²) over kept entries, in (0, 1]; 1 when all weights are equal.

    Kish's effective sample size as a share of n, of weights that are not negative; a small
    share foretells a collapse (arXiv 2602.17616). 0 when nothing is kept.
    """
    kept = weights.masked_fill(~mask, 0.0)
    # As shares of the largest, so that the squares of very small weights do not vanish.
    shares = kept / kept.max().clamp(min=torch.finfo(kept.dtype).tiny)
    squares = (shares**2).sum() * mask.sum()
    return shares.sum() ** 2 / squares.clamp(min=1.0)


def mean_reply_sum(
    values_BT: torch.Tensor, mask_BT: torch.Tensor, length_constant: float | torch.Tensor
) -> torch.Tensor:
    """Return mean_b (Σ_t values / length_constant_b): how each loss goes from tokens to a number.

    ``length_constant`` says how many tokens weigh 1 together: one number for all replies, or
    ``[B]`` from ``length_divisors``.
    """
    return (masked_sum(values_BT, mask_BT) / length_constant).mean()
