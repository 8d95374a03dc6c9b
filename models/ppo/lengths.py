"""What the length of a reply does to its weight in a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    LengthForm = Literal["constant", "token"]


def length_divisors(mask_BT: torch.Tensor, *, form: LengthForm, constant: float) -> torch.Tensor:
    """Return what divides the sum over each reply's tokens before the mean over replies, ``[B]``.

    Args:
        mask_BT: The whole minibatch, True where a token counts. Rows that keep nothing leave the
            denominator too: the others are divided by less.
        form: ``constant`` divides all replies alike, so that a long bad reply is pushed down as a
            whole ("Dr. GRPO", arXiv 2503.20783). ``token`` makes each token of the minibatch
            weigh the same (DAPO, arXiv 2503.14476 §3.3; TRL's PPO).
        constant: Tokens that weigh 1 together in the first form.
    """
    lengths_B = mask_BT.sum(-1).to(torch.get_default_dtype())
    share = (lengths_B > 0).to(lengths_B.dtype).mean()
    if form == "constant":
        divisors_B = torch.full_like(lengths_B, constant) * share
    else:
        divisors_B = torch.ones_like(lengths_B) * lengths_B.mean()
    # A row that keeps nothing has the sum 0: whatever divides it, 0 / 0 must not.
    return torch.where(lengths_B > 0, divisors_B, 1.0)
