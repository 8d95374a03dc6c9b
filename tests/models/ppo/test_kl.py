from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.ppo.kl import adapt_beta, full, k1, k2, k3


def test_k1_averaged_over_the_distribution_is_the_kl() -> None:
    p, q = torch.tensor([0.7, 0.3]), torch.tensor([0.4, 0.6])
    expected = 0.7 * math.log(0.7 / 0.4) + 0.3 * math.log(0.3 / 0.6)
    assert (p * k1(p.log(), q.log())).sum().item() == pytest.approx(expected, rel=1e-6)


def test_k3_averaged_over_the_distribution_is_the_kl_too() -> None:
    p, q = torch.tensor([0.7, 0.3]), torch.tensor([0.4, 0.6])
    expected = 0.7 * math.log(0.7 / 0.4) + 0.3 * math.log(0.3 / 0.6)
    assert (p * k3(p.log(), q.log())).sum().item() == pytest.approx(expected, rel=1e-6)


def test_k2_is_half_the_square() -> None:
    assert k2(torch.tensor(-1.0), torch.tensor(-4.0)).item() == 4.5


def test_k2s_gradient_averaged_over_the_distribution_is_that_of_the_kl() -> None:
    logits = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    new = logits.log_softmax(-1)
    (sampled,) = torch.autograd.grad((new.exp().detach() * k2(new, reference)).sum(), logits)
    (exact,) = torch.autograd.grad(full(logits.log_softmax(-1), reference), logits)
    assert torch.allclose(sampled, exact, atol=1e-12)


def test_an_infinite_horizon_leaves_beta_alone() -> None:
    assert adapt_beta(0.05, kl=60.0, target=6.0, votes=20, horizon=math.inf, least=0.0) == 0.05


def test_the_full_kl_by_hand() -> None:
    p, q = torch.tensor([[0.7, 0.3], [0.5, 0.5]]), torch.tensor([[0.4, 0.6], [0.5, 0.5]])
    expected = 0.7 * math.log(0.7 / 0.4) + 0.3 * math.log(0.3 / 0.6)
    assert full(p.log(), q.log()).tolist() == pytest.approx([expected, 0.0], abs=1e-7)


def test_the_full_kls_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(2, 5, dtype=torch.float64).log_softmax(-1)
    assert torch.autograd.gradcheck(lambda x: full(x.log_softmax(-1), reference), (logits,))


@given(st.floats(-20, 0), st.floats(-20, 0))
def test_k3_is_never_negative(new: float, reference: float) -> None:
    assert k3(torch.tensor(new).double(), torch.tensor(reference).double()).item() >= 0


@pytest.mark.parametrize(
    ("kl", "factor"),
    [
        (6.0, 1.0),  # on target: stays
        (6.6, 1 + 0.1 * 0.02),  # 10 % over, 20 of 1000 votes
        (60.0, 1 + 0.2 * 0.02),  # the error is clipped to 0.2
        (0.0, 1 - 0.2 * 0.02),
    ],
)
def test_beta_moves_towards_the_target(kl: float, factor: float) -> None:
    moved = adapt_beta(0.05, kl=kl, target=6.0, votes=20, horizon=1000, least=0.0)
    assert moved == pytest.approx(0.05 * factor, rel=1e-9)


def test_beta_is_bounded() -> None:
    assert adapt_beta(0.05, kl=0.0, target=6.0, votes=20, horizon=1000, least=0.05) == 0.05
    # of a batch of 500 votes not 25 times the error
    moved = adapt_beta(0.05, kl=60.0, target=6.0, votes=500, horizon=20, least=0.05)
    assert moved == pytest.approx(0.06)
