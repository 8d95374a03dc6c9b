"""Estimators of KL(π ‖ reference) from sampled tokens, and the coefficient β that it has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def k1(logprobs_BT: torch.Tensor, reference_BT: torch.Tensor) -> torch.Tensor:
    """Return log π − log reference for tokens drawn from π, ``[B, T]``: unbiased, may be negative.

    The form to put into the reward (arXiv 2512.21852).
    """
    return logprobs_BT - reference_BT


def k3(logprobs_BT: torch.Tensor, reference_BT: torch.Tensor) -> torch.Tensor:
    """Return (r − 1) − log r with r = reference / π, ``[B, T]``: never negative, low variance.

    For monitoring only (J. Schulman, "Approximating KL divergence", 2020).
    """
    log_ratio = reference_BT - logprobs_BT
    return log_ratio.expm1() - log_ratio


def full(distributions: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return KL(π ‖ reference) at each position, ``[..., V]`` log-probs to ``[...]``: exact.

    Its gradient has no sampling noise, which a few hundred votes cannot average out. The log-probs
    must be finite, as those of a softmax over logits are: 0 · ∞ is not defined away here, as that
    would cost two more tensors of the vocabulary's size.
    """
    return (distributions.exp() * (distributions - reference)).sum(-1)


def coefficient(kl: float, *, target: float, at_target: float, power: float) -> float:
    """Return β for a policy that is ``kl`` nats a reply from the base.

    ``at_target`` · (kl / target)^power: nearly nothing near the base, where it would only hold back
    what votes teach, and steep around the target. A power of 0 fixes β. It depends on where the
    policy is and not on how it came there, so that it neither lags nor swings; the form is ours,
    for want of votes for a controller (Ziegler et al., arXiv 1909.08593 §2.2) to react within.

    Args:
        kl: Estimated from samples, and counted as 0 where that falls below.
        target: Nats a reply.
        at_target: β there.
        power: 0 or more.
    """
    return at_target * math.pow(max(kl, 0.0) / target, power)
