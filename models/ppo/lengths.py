"""The weight of a reply in a loss, by its length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    LengthForm = Literal["constant", "token"]


def length_divisors(mask_BT: torch.Tensor, *, form: LengthForm, constant: float) -> torch.Tensor:
    """Return the divisor of each reply's sum over tokens, before the mean over replies, ``[B]``.

    Args:
        mask_BT: The whole minibatch, True where a token counts. Rows that keep nothing leave the
            denominator too: the others are divided by less.
        form: ``constant`` divides all replies alike, so that a long bad reply is pushed down as a
            whole ("Dr. GRPO", arXiv 2503.20783). ``token`` makes each token of the minibatch
            weigh the same (DAPO, arXiv 2503.14476 §3.3; TRL's PPO).
        constant: The number of tokens that weigh 1 together, for the form ``constant``.
    """
    lengths_B = mask_BT.sum(-1).to(torch.get_default_dtype())
    share = (lengths_B > 0).to(lengths_B.dtype).mean()
    if form == "constant":
        divisors_B = torch.full_like(lengths_B, constant) * share
    else:
        divisors_B = torch.ones_like(lengths_B) * lengths_B.mean()
    # A row without kept tokens has the sum 0, and its divisor must not be 0.
    return torch.where(lengths_B > 0, divisors_B, 1.0)
