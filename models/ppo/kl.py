"""Estimators of KL(π ‖ reference), in nats, and its coefficient β."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def k1(logprobs_BT: torch.Tensor, reference_BT: torch.Tensor) -> torch.Tensor:
    """Return log π − log reference for tokens drawn from π, ``[B, T]``.

    The estimate is unbiased and may be negative. It is the form for a penalty in the reward (arXiv
    2512.21852).
    """
    return logprobs_BT - reference_BT


def k3(logprobs_BT: torch.Tensor, reference_BT: torch.Tensor) -> torch.Tensor:
    """Return (r − 1) − log r with r = reference / π, ``[B, T]``.

    The estimate is never negative and has low variance. It is for monitoring only (J. Schulman,
    "Approximating KL divergence", 2020).
    """
    log_ratio = reference_BT - logprobs_BT
    return log_ratio.expm1() - log_ratio


def full(distributions: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the exact KL(π ‖ reference) ``[...]`` of log-probs ``[..., V]``.

    The gradient has no sampling noise. All log-probs must be finite, because 0 · ∞ gives NaN here;
    a softmax over logits gives finite ones.
    """
    return (distributions.exp() * (distributions - reference)).sum(-1)


def coefficient(kl: float, *, target: float, at_target: float, power: float) -> float:
    """Return β for a policy that is ``kl`` nats a reply from the base.

    β = ``at_target`` · (kl / target)^power. It is nearly 0 near the base, where a penalty would
    only slow learning, and steep around the target. It depends on the current KL alone, so it
    neither lags nor oscillates. The form is Thumbloop's own: an adaptive controller (Ziegler et
    al., arXiv 1909.08593 §2.2) needs more updates to react than there are votes for.

    Args:
        kl: The KL in nats per reply, estimated from samples; a negative estimate counts as 0.
        target: The target KL, in nats per reply.
        at_target: β at the target.
        power: The exponent, 0 or more; 0 makes β constant.
    """
    return at_target * math.pow(max(kl, 0.0) / target, power)
