from __future__ import annotations

import pytest
import torch

from models.ppo.likelihood import approvals, likelihood_loss


def test_only_what_is_liked_is_approved_of() -> None:
    assert approvals(torch.tensor([1.0, 0.2, 0.0, -1.0])).tolist() == pytest.approx(
        [1.0, 0.2, 0.0, 0.0]
    )


def test_the_loss_is_the_weighted_negative_log_likelihood() -> None:
    new = torch.tensor([[-1.0, -2.0], [-3.0, float("nan")], [-9.0, -9.0]])
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    loss = likelihood_loss(new, torch.tensor([1.0, 0.5, 0.0]), mask, length_constant=2.0)
    # (3 + 1.5 + 0) / 3 replies / 2
    assert loss.item() == pytest.approx(0.75)
