from __future__ import annotations

import torch

from models.learning.state import LearnerState, restore_adam


def test_moments_read_from_a_file_go_to_the_weights_device() -> None:
    weights = torch.nn.Parameter(torch.zeros(2, device="meta"))
    optimizer = torch.optim.Adam([weights])
    state = LearnerState(step=3, first={"w": torch.ones(2)}, second={"w": torch.ones(2)})
    restore_adam(optimizer, {"w": weights, "new": weights}, state)
    assert {moment.device.type for moment in optimizer.state[weights].values()} == {"meta"}


def test_moments_are_copies() -> None:
    weights = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([weights])
    state = LearnerState(step=3, first={"w": torch.ones(2)}, second={"w": torch.ones(2)})
    restore_adam(optimizer, {"w": weights}, state)
    optimizer.state[weights]["exp_avg"].zero_()
    assert state.first["w"].tolist() == [1.0, 1.0]
    assert optimizer.state[weights]["step"].item() == 3.0
