from __future__ import annotations

import pytest
import torch

from models.ppo.masked import effective_sample_size, masked_mean, masked_sum


def test_sum_ignores_whatever_is_masked_out() -> None:
    values = torch.tensor([[1.0, 2.0, float("nan")], [4.0, float("inf"), 6.0]])
    mask = torch.tensor([[True, True, False], [True, False, True]])
    assert masked_sum(values, mask).tolist() == [3.0, 10.0]


def test_mean_of_the_kept_entries_of_all_rows() -> None:
    values = torch.tensor([[1.0, 2.0], [6.0, 100.0]])
    mask = torch.tensor([[True, True], [True, False]])
    assert masked_mean(values, mask).item() == 3.0


def test_mean_of_nothing_is_zero() -> None:
    assert masked_mean(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool)).item() == 0.0


def test_effective_sample_size_is_one_for_equal_weights() -> None:
    mask = torch.tensor([True, True, True, False])
    assert effective_sample_size(torch.tensor([2.0, 2.0, 2.0, 9.0]), mask).item() == 1.0


def test_effective_sample_size_of_one_heavy_weight_among_four_is_a_quarter() -> None:
    weights = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert effective_sample_size(weights, torch.ones(4, dtype=torch.bool)).item() == pytest.approx(
        0.25
    )
