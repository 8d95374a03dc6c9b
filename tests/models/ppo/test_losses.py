from __future__ import annotations

import math

import pytest
import torch

from models.ppo.losses import behaviour_weights, keep_sequences, policy_loss


def _loss(
    new: torch.Tensor,
    start: float,
    advantage: float,
    weight: float = 1.0,
    clip_high: float | None = None,
) -> float:
    shape = (1, 1)
    return policy_loss(
        new,
        torch.full(shape, start),
        torch.full(shape, advantage),
        torch.full(shape, weight),
        torch.ones(shape, dtype=torch.bool),
        clip=0.2,
        clip_high=clip_high,
        length_constant=1.0,
    ).loss.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 1.0, -1.0),
        (1.1, 2.0, -2.2),  # inside the range: ratio * A
        (1.5, 2.0, -2.4),  # liked and already much likelier: held at 1.2
        (0.5, 2.0, -1.0),  # liked and less likely: not held
        (1.5, -2.0, 3.0),  # disliked and likelier: not held
        (0.5, -2.0, 1.6),  # disliked and already much less likely: held at 0.8
    ],
)
def test_the_clipped_surrogate_of_one_token(
    ratio: float, advantage: float, expected: float
) -> None:
    new = torch.tensor([[-1.0 + math.log(ratio)]])
    assert _loss(new, -1.0, advantage) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (2.5, 2.0, -5.0),  # liked: may become three times as likely
        (3.5, 2.0, -6.0),
        (0.5, -2.0, 1.6),  # disliked: held at 0.8 all the same
    ],
)
def test_what_is_liked_may_go_further_up_than_the_disliked_down(
    ratio: float, advantage: float, expected: float
) -> None:
    new = torch.tensor([[-1.0 + math.log(ratio)]])
    assert _loss(new, -1.0, advantage, clip_high=2.0) == pytest.approx(expected, rel=1e-6)


def test_a_stale_samples_weight_multiplies_the_surrogate() -> None:
    assert _loss(torch.tensor([[-1.0]]), -1.0, 2.0, weight=0.5) == pytest.approx(-1.0)


def test_no_gradient_flows_where_the_ratio_is_held() -> None:
    new = torch.tensor([[math.log(1.5) - 1.0]], requires_grad=True)
    one = torch.ones(1, 1)
    result = policy_loss(new, -one, one, one, one.bool(), clip=0.2, length_constant=1.0)
    result.loss.backward()
    assert new.grad is not None
    assert new.grad.item() == 0.0
    assert result.clip_fraction.item() == 1.0


def test_sum_over_tokens_by_a_constant_then_mean_over_replies() -> None:
    new = torch.zeros(2, 3)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    advantages = torch.tensor([[1.0, 1.0, 1.0], [-1.0, 50.0, 50.0]])
    result = policy_loss(
        new, new, advantages, torch.ones(2, 3), mask, clip=0.2, length_constant=10.0
    )
    # the replies give -3 and +1, each over 10
    assert result.loss.item() == pytest.approx(-0.1)


def test_weights_are_the_capped_ratio_to_the_behaviour() -> None:
    start = torch.tensor([[-1.0, -1.0, -3.0]])
    behaviour = torch.tensor([[-1.0, -3.0, -1.0]])
    weights = behaviour_weights(start, behaviour, cap=2.0)
    assert weights[0].tolist() == pytest.approx([1.0, 2.0, math.exp(-2)])


def test_disliked_replies_that_the_policy_left_behind_are_dropped() -> None:
    mask = torch.tensor([[True, True]] * 3 + [[True, False]])
    behaviour = torch.tensor([[-1.0, -1.0]] * 4)
    start = torch.tensor([[-2.0, -2.0], [-2.0, -2.0], [-1.2, -1.2], [-1.0, -9.0]])
    scores = torch.tensor([1.0, -1.0, -1.0, -1.0])
    kept = keep_sequences(scores, start, behaviour, mask, limit=0.5)
    # liked; drifted by 1 nat a token; drifted by 0.2; drifted only where masked out
    assert kept.tolist() == [True, False, True, True]


@pytest.mark.parametrize(("new", "advantage"), [(300.0, 1.0), (300.0, 0.0), (-300.0, -1.0)])
def test_absurd_ratios_give_finite_losses_and_gradients(new: float, advantage: float) -> None:
    # e^300 is infinite in fp32
    logprob = torch.tensor([[new]], requires_grad=True)
    one = torch.ones(1, 1)
    result = policy_loss(
        logprob, one * 0, one * advantage, one, one.bool(), clip=0.2, length_constant=1.0
    )
    result.loss.backward()
    held = 1.2 if new > 0 else 0.8
    assert result.loss.item() == pytest.approx(-held * advantage)
    assert logprob.grad is not None
    assert logprob.grad.item() == 0.0


def test_what_is_reported_of_ratios() -> None:
    new = torch.tensor([[math.log(1.5), math.log(0.9), 99.0]])
    mask = torch.tensor([[True, True, False]])
    ones = torch.ones(1, 3)
    weights = torch.tensor([[3.0, 1.0, 50.0]])
    result = policy_loss(new, ones * 0, ones, weights, mask, clip=0.2, length_constant=1.0)
    assert result.ratio_mean.item() == pytest.approx(1.2)
    assert result.ratio_max.item() == pytest.approx(1.5)
    assert result.clip_fraction.item() == pytest.approx(0.5)
