from __future__ import annotations

import pytest
import torch

from models.ppo.critic import critic_loss, gae

NAN = float("nan")
REWARDS = torch.tensor([[0.0, 0.0, 1.0]])
VALUES = torch.tensor([[0.5, 0.2, 0.4]])
ALL = torch.ones(1, 3, dtype=torch.bool)


def test_generalised_advantages_by_hand() -> None:
    # δ = 0.2 - 0.5, 0.4 - 0.2, 1 - 0.4; from the end with γλ = 0.5:
    # 0.6, 0.2 + 0.3, -0.3 + 0.25
    found = gae(REWARDS, VALUES, ALL, gamma=1.0, lam=0.5)
    assert found[0].tolist() == pytest.approx([-0.05, 0.5, 0.6])


def test_with_lambda_one_an_advantage_is_what_comes_less_what_was_expected() -> None:
    found = gae(REWARDS, VALUES, ALL, gamma=1.0, lam=1.0)
    assert found[0].tolist() == pytest.approx([0.5, 0.8, 0.6])


def test_with_lambda_zero_it_is_the_surprise_of_one_token() -> None:
    found = gae(REWARDS, VALUES, ALL, gamma=1.0, lam=0.0)
    assert found[0].tolist() == pytest.approx([-0.3, 0.2, 0.6])


def test_what_is_masked_out_is_as_if_it_were_not_there() -> None:
    rewards = torch.tensor([[0.0, NAN, 0.0, 1.0, NAN]])
    values = torch.tensor([[0.5, NAN, 0.2, 0.4, NAN]])
    mask = torch.tensor([[True, False, True, True, False]])
    found = gae(rewards, values, mask, gamma=1.0, lam=0.5)
    assert found[0].tolist() == pytest.approx([-0.05, 0.0, 0.5, 0.6, 0.0])


def test_a_reply_of_one_token() -> None:
    one = torch.ones(1, 1)
    assert gae(one, one * 0.3, one.bool(), gamma=0.9, lam=0.9).item() == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.5, 0.125),  # not moved: ½ · 0.5²
        (0.6, 0.08),  # moved inside the range: ½ · 0.4²
        (0.9, 0.045),  # moved too far: held at 0.7, ½ · 0.3², not ½ · 0.1²
        (0.1, 0.405),  # the wrong way: ½ · 0.9², worse than held at 0.3
    ],
)
def test_the_clipped_error_of_a_value(value: float, expected: float) -> None:
    one = torch.ones(1, 1)
    found = critic_loss(
        one * value, one * 0.5, one, one.bool(), clip=0.2, length_constant=1.0
    ).item()
    assert found == pytest.approx(expected)
