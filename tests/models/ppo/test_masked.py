from __future__ import annotations

import pytest
import torch

from models.ppo.masked import (
    effective_sample_size,
    masked_mean,
    masked_sum,
    masked_variance,
    mean_reply_sum,
    whiten,
)

ONE_KEPT = torch.tensor([[True, False]])


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


def test_variance_of_the_kept_entries() -> None:
    values = torch.tensor([[1.0, 3.0], [8.0, float("nan")]])
    mask = torch.tensor([[True, True], [True, False]])
    # mean 4: (9 + 1 + 16) / 3
    assert masked_variance(values, mask).item() == pytest.approx(26 / 3)


def test_variance_of_one_entry_and_of_none_is_zero() -> None:
    values = torch.tensor([[5.0, 7.0]])
    assert masked_variance(values, ONE_KEPT).item() == 0.0
    assert masked_variance(values, torch.zeros(1, 2, dtype=torch.bool)).item() == 0.0


def test_whitening_by_hand() -> None:
    values = torch.tensor([[1.0, 3.0, float("inf")]])
    mask = torch.tensor([[True, True, False]])
    # mean 2, standard deviation 1
    assert whiten(values, mask, floor=0.1).tolist() == [[-1.0, 1.0, 0.0]]
    assert whiten(values, mask, floor=4.0).tolist() == [[-0.25, 0.25, 0.0]]
    assert whiten(values, mask, floor=0.1, centre=False).tolist() == [[1.0, 3.0, 0.0]]


def test_whitening_one_token() -> None:
    values = torch.tensor([[5.0, 7.0]])
    assert whiten(values, ONE_KEPT, floor=0.5).tolist() == [[0.0, 0.0]]
    assert whiten(values, ONE_KEPT, floor=0.5, centre=False).tolist() == [[10.0, 0.0]]


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_effective_sample_size_does_not_depend_on_the_scale(scale: float) -> None:
    # (3 + 1)² / (2 (9 + 1))
    weights = torch.tensor([3.0, 1.0]) * scale
    found = effective_sample_size(weights, torch.ones(2, dtype=torch.bool))
    assert found.item() == pytest.approx(0.8)


def test_effective_sample_size_of_nothing_is_zero() -> None:
    nothing = torch.zeros(2, dtype=torch.bool)
    assert effective_sample_size(torch.ones(2), nothing).item() == 0.0
    assert effective_sample_size(torch.zeros(2), ~nothing).item() == 0.0


def test_a_loss_is_the_mean_over_replies_of_their_sums_by_length() -> None:
    values = torch.tensor([[1.0, 2.0], [8.0, float("nan")]])
    mask = torch.tensor([[True, True], [True, False]])
    assert mean_reply_sum(values, mask, 4.0).item() == pytest.approx((3 / 4 + 8 / 4) / 2)
    found = mean_reply_sum(values, mask, torch.tensor([2.0, 1.0])).item()
    assert found == pytest.approx((3 / 2 + 8) / 2)
