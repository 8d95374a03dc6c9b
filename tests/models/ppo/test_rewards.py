from __future__ import annotations

import pytest
import torch

from models.ppo.advantages import reward_to_go
from models.ppo.kl import k1
from models.ppo.rewards import at_last_token, token_rewards

NAN = float("nan")


def test_drift_costs_where_it_happens_and_the_score_comes_last() -> None:
    start = torch.tensor([[-1.0, -2.0, -1.0], [-1.0, NAN, NAN]])
    reference = torch.tensor([[-2.0, -1.0, -5.0], [-1.5, NAN, NAN]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    rewards = token_rewards(torch.tensor([1.0, -1.0]), k1(start, reference), mask, beta=0.1)
    # -0.1 · (1, -1, 4), and 1 at the end; -0.1 · 0.5 - 1 on the reply of one token
    assert rewards[0].tolist() == pytest.approx([-0.1, 0.1, 0.6])
    assert rewards[1].tolist() == pytest.approx([-1.05, 0.0, 0.0])
    assert reward_to_go(rewards, mask)[0].tolist() == pytest.approx([0.6, 0.7, 0.6])


def test_no_gradient_flows_through_the_penalty() -> None:
    start = torch.tensor([[-1.0]], requires_grad=True)
    rewards = token_rewards(torch.ones(1), start, start < 0, beta=0.1)
    assert not rewards.requires_grad


def test_the_last_token_is_the_last_that_is_kept() -> None:
    mask = torch.tensor([[True, False, True, False], [False, False, False, False]])
    found = at_last_token(torch.tensor([2.0, 3.0]), mask)
    assert found.tolist() == [[0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
