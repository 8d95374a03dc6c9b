from __future__ import annotations

import pytest
import torch

from models.ppo.likelihood import likelihood_loss


def test_the_loss_is_the_negative_log_likelihood() -> None:
    new = torch.tensor([[-1.0, -2.0], [-3.0, float("nan")], [float("nan"), float("nan")]])
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    loss = likelihood_loss(new, mask, length_constant=2.0)
    # (3 + 3 + 0) / 3 replies / 2
    assert loss.item() == pytest.approx(1.0)
