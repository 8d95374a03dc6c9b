"""Gradients against finite differences, and that nothing outside a mask can reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ppo.critic import ValueHead, critic_loss
from models.ppo.lengths import length_divisors
from models.ppo.likelihood import likelihood_loss
from models.ppo.losses import policy_loss
from tests.support.models.random_batches import Batch, batches

if TYPE_CHECKING:
    from collections.abc import Callable

FORMS = ("constant", "token")


def _draw(seed: int) -> tuple[torch.Generator, torch.Tensor, torch.Tensor]:
    """A generator, log-probs ``[3, 4]`` in float64, and a mask with rows of 4, 2 and 1 tokens."""
    generator = torch.Generator().manual_seed(seed)
    logprobs = -torch.rand(3, 4, dtype=torch.float64, generator=generator) * 3
    mask = torch.arange(4) < torch.tensor([[4], [2], [1]])
    return generator, logprobs, mask


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("form", FORMS)
def test_the_policy_loss(seed: int, form: str) -> None:
    generator, start, mask = _draw(seed)
    # ratios on both sides of both edges of the clip, none of them on an edge
    steps = torch.rand(3, 4, dtype=torch.float64, generator=generator) - 0.5
    new = (start + steps).requires_grad_()
    advantages = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    weights = torch.rand(3, 4, dtype=torch.float64, generator=generator) * 2
    divisors = length_divisors(mask, form=form, constant=5.0)  # type: ignore[arg-type]

    def loss(new: torch.Tensor) -> torch.Tensor:
        return policy_loss(
            new, start, advantages, weights, mask, clip=0.2, length_constant=divisors
        ).loss

    assert torch.autograd.gradcheck(loss, (new,))


@pytest.mark.parametrize("seed", range(5))
def test_the_critics_loss(seed: int) -> None:
    generator, old, mask = _draw(seed)
    steps = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)
    values, returns = (old + steps[0]).requires_grad_(), old + steps[1]

    def loss(values: torch.Tensor) -> torch.Tensor:
        return critic_loss(values, old, returns, mask, clip=0.2, length_constant=5.0)

    assert torch.autograd.gradcheck(loss, (values,))


def test_the_likelihood_loss() -> None:
    _, new, mask = _draw(0)

    def loss(new: torch.Tensor) -> torch.Tensor:
        return likelihood_loss(new, mask, length_constant=5.0)

    assert torch.autograd.gradcheck(loss, (new.requires_grad_(),))
    loss(new).backward()  # type: ignore[no-untyped-call]
    assert new.grad is not None
    # -1 / (3 replies * 5) at each kept token
    assert new.grad[0].tolist() == pytest.approx([-1 / 15] * 4)
    assert new.grad[1].tolist() == pytest.approx([-1 / 15] * 2 + [0.0] * 2)
    assert new.grad[2].tolist() == pytest.approx([-1 / 15, 0.0, 0.0, 0.0])


def test_the_value_head_learns_itself_but_not_through_the_policy() -> None:
    head = ValueHead(3)
    hidden = torch.ones(2, 3, requires_grad=True)
    values = head(hidden)
    assert values.tolist() == [0.0, 0.0]
    ((values - 1.0) ** 2).sum().backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is None
    # two positions, each with 2 (0 - 1) · 1
    assert head.parameters["value.weight"].grad.tolist() == [-4.0] * 3  # type: ignore[union-attr]
    assert head.parameters["value.bias"].grad.item() == -4.0  # type: ignore[union-attr]


@settings(max_examples=150, deadline=None)
@given(batches(), st.sampled_from(FORMS))
def test_gradients_are_finite_and_zero_where_masked_out(batch: Batch, form: str) -> None:
    mask, start = batch.tensor("mask"), batch.tensor("start").float()
    votes, values = batch.tensor("rewards").float(), batch.tensor("values").float()
    divisors = length_divisors(mask, form=form, constant=7.0)  # type: ignore[arg-type]
    losses: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda x: (
            policy_loss(
                x, start, votes[:, None] * values, values, mask, clip=0.2, length_constant=divisors
            ).loss
        ),
        lambda x: critic_loss(x, start, values, mask, clip=0.2, length_constant=divisors),
        lambda x: likelihood_loss(x, mask, length_constant=divisors),
    ]
    for loss in losses:
        new = batch.tensor("new").float().requires_grad_()
        result = loss(new)
        result.backward()  # type: ignore[no-untyped-call]
        assert result.isfinite()
        assert new.grad is not None
        assert new.grad.isfinite().all()
        assert (new.grad[~mask] == 0).all()
