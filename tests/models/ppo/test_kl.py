from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.ppo.kl import coefficient, full, k1, k3


def test_k1_averaged_over_the_distribution_is_the_kl() -> None:
    p, q = torch.tensor([0.7, 0.3]), torch.tensor([0.4, 0.6])
    expected = 0.7 * math.log(0.7 / 0.4) + 0.3 * math.log(0.3 / 0.6)
    assert (p * k1(p.log(), q.log())).sum().item() == pytest.approx(expected, rel=1e-6)


def test_k3_averaged_over_the_distribution_is_the_kl_too() -> None:
    p, q = torch.tensor([0.7, 0.3]), torch.tensor([0.4, 0.6])
    expected = 0.7 * math.log(0.7 / 0.4) + 0.3 * math.log(0.3 / 0.6)
    assert (p * k3(p.log(), q.log())).sum().item() == pytest.approx(expected, rel=1e-6)


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
    ("kl", "beta"),
    [
        (16.0, 0.05),  # at the target
        (8.0, 0.05 / 8),
        (32.0, 0.05 * 8),
        (0.0, 0.0),
        (-0.3, 0.0),  # an estimate from samples
    ],
)
def test_beta_grows_with_the_third_power_of_the_distance(kl: float, beta: float) -> None:
    assert coefficient(kl, target=16.0, at_target=0.05, power=3.0) == pytest.approx(beta)


@pytest.mark.parametrize("kl", [-1.0, 0.0, 3.0, 60.0])
def test_a_power_of_nought_fixes_beta(kl: float) -> None:
    assert coefficient(kl, target=16.0, at_target=0.05, power=0.0) == 0.05
