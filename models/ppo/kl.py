"""Estimators of KL(π ‖ reference) from sampled tokens, and the controller of its coefficient β."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def k1(logprobs_BT: torch.Tensor, reference_BT: torch.Tensor) -> torch.Tensor:
    """Return log π − log reference for tokens drawn from π, ``[B, T]``: unbiased, may be negative.

    The form to put into the reward (arXiv 2512.21852).
    """
    return logprobs_BT - reference_BT


def k2(logprobs_BT: torch.Tensor, reference_BT: torch.Tensor) -> torch.Tensor:
    """Return ½ (log π − log reference)², ``[B, T]``: never negative, biased.

    Its gradient in π, at tokens drawn from π, is that of the KL: as a loss it is what k1 is in the
    reward (J. Schulman, "Approximating KL divergence", 2020; arXiv 2510.01555).
    """
    return 0.5 * (logprobs_BT - reference_BT) ** 2


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


def adapt_beta(
    beta: float, *, kl: float, target: float, votes: int, horizon: float, least: float
) -> float:
    """Move β so that the KL per reply approaches ``target`` nats, but not below ``least``.

    Ziegler et al., arXiv 1909.08593 §2.2: the relative error is clipped to ±0.2, and ``votes`` of
    ``horizon`` votes' worth of it is applied, all of it at most. The bounds are ours:
    a policy that is still near the base would else have lost its β by the time that it needs it,
    and a large batch would overshoot.
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return max(least, beta * (1.0 + error * min(1.0, votes / horizon)))
