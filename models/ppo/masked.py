"""Statistics over the kept entries of a padded tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def masked_sum(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Sum each row's kept entries: ``[B, T]``, True keeps, to ``[B]``.

    Entries that are masked out may be anything, infinities and NaN included.
    """
    return values_BT.masked_fill(~mask_BT, 0.0).sum(-1)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average all kept entries, of any shape; 0 when none is kept."""
    kept = mask.sum().clamp(min=1)
    return values.masked_fill(~mask, 0.0).sum() / kept


def effective_sample_size(weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return (Σw)² / (n Σw²) over kept entries, in (0, 1]; 1 when all weights are equal.

    Kish's effective sample size as a share of n. 0 when nothing is kept.
    """
    kept = weights.masked_fill(~mask, 0.0)
    squares = (kept**2).sum() * mask.sum()
    return kept.sum() ** 2 / squares.clamp(min=1e-12)
