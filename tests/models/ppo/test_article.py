"""The article's PPO, step by step, on a policy of one logit, with values worked out by hand.

J. Lages, "Reinforcement Learning from Human Feedback" (Towards AI). The reply is one token, the
second of a vocabulary of two; its probability is p = σ(θ). The frozen model gives it 0.25. A thumb
up is worth 1.

θ = 0 gives p = 0.5. d log p / dθ = 1 - p, so a step of gradient descent at rate 1 adds
R · ratio · (1 - p) to θ as long as the ratio is not held.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import pytest
import torch

from models.ppo import kl
from models.ppo.losses import PolicyLoss, policy_loss
from models.ppo.rewards import article_returns

ONE = torch.ones(1, 1, dtype=torch.float64)
FROZEN = torch.tensor([[0.75, 0.25]], dtype=torch.float64).log()
TIMES = 4


@dataclass(frozen=True)
class Round:
    """What one round of steps 2 to 5 does: the ratio, the loss, and the logit after it."""

    ratio: float
    loss: float
    theta: float


def _new_probs(theta: torch.Tensor) -> torch.Tensor:
    """Log-probs of both tokens, ``[1, 2]``."""
    return torch.stack([torch.zeros_like(theta), theta], -1)[None].log_softmax(-1)


def _loss(new: torch.Tensor, initial: torch.Tensor, returns: torch.Tensor) -> PolicyLoss:
    return policy_loss(
        new[:, 1:], initial[:, 1:], returns, ONE, ONE.bool(), clip=0.2, length_constant=1.0
    )


def _walk(returns: torch.Tensor) -> list[Round]:
    theta = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    rounds = []
    new = _new_probs(theta)
    initial = new.detach()  # 1. initial probs = new probs
    for _ in range(TIMES):  # 6. from 2 again, N = 4 times
        # 2. the ratio of the new to the initial probs
        ratio = (new[0, 1] - initial[0, 1]).exp().item()
        loss = _loss(new, initial, returns).loss  # 3. -min(ratio R, clip(ratio, 0.8, 1.2) R)
        loss.backward()  # 4. backpropagate
        with torch.no_grad():
            theta -= theta.grad
        theta.grad = None
        new = _new_probs(theta)  # 5. new probs with the updated model
        rounds.append(Round(ratio, loss.item(), theta.item()))
    return rounds


def test_the_weighted_return_with_the_sampled_kl() -> None:
    start = _new_probs(torch.tensor(0.0, dtype=torch.float64))
    drift = kl.k1(start, FROZEN)[:, 1:]
    returns = article_returns(ONE[:, 0], drift, ONE.bool(), form="weighted")
    # log(0.5 / 0.25) = 0.693147, of which a fifth is taken from 0.8
    assert returns.item() == pytest.approx(0.661371, abs=1e-6)


def test_the_weighted_return_with_the_kl_of_the_whole_distribution() -> None:
    start = _new_probs(torch.tensor(0.0, dtype=torch.float64))
    drift = kl.full(start, FROZEN)[:, None]
    returns = article_returns(ONE[:, 0], drift, ONE.bool(), form="weighted")
    # KL = 0.5 log(0.5 / 0.25) + 0.5 log(0.5 / 0.75) = 0.346574 - 0.202733 = 0.143841
    assert returns.item() == pytest.approx(0.8 - 0.2 * 0.143841, abs=1e-6)


def test_the_added_return_and_a_thumb_down() -> None:
    start = _new_probs(torch.tensor(0.0, dtype=torch.float64))
    drift = kl.k1(start, FROZEN)[:, 1:]
    returns = article_returns(-ONE[:, 0], drift, ONE.bool(), form="added")
    assert returns.item() == pytest.approx(-1 - 0.693147, abs=1e-6)


def test_the_six_steps_of_a_thumb_up() -> None:
    found = _walk(torch.tensor([[0.661371]], dtype=torch.float64))
    # first: p = 0.5, ratio 1, loss -R; θ = 0.661371 · 1 · 0.5 = 0.330686
    assert astuple(found[0]) == pytest.approx((1.0, -0.661371, 0.330686), abs=2e-6)
    # second: p = σ(0.330686) = 0.581926, ratio 1.163853, still free: loss -0.661371 · 1.163853;
    # θ = 0.330686 + 0.769738 · (1 - 0.581926) = 0.652493
    assert astuple(found[1]) == pytest.approx((1.163853, -0.769738, 0.652493), abs=2e-6)
    # third: p = 0.657572, ratio 1.315144 is held at 1.2: loss -0.793645, and nothing moves
    assert astuple(found[2]) == pytest.approx((1.315144, -0.793645, 0.652493), abs=2e-6)
    assert found[3] == found[2]


def test_the_six_steps_of_a_thumb_down() -> None:
    found = _walk(torch.tensor([[-1.0]], dtype=torch.float64))
    # first: the loss is 1 and θ becomes -0.5
    assert astuple(found[0]) == pytest.approx((1.0, 1.0, -0.5), abs=2e-6)
    # second: p = σ(-0.5) = 0.377541, ratio 0.755081 is held at 0.8: loss 0.8, and nothing moves
    assert astuple(found[1]) == pytest.approx((0.755081, 0.8, -0.5), abs=2e-6)
    assert found[3] == found[1]
