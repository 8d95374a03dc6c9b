"""The order of packed weights, element by element."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.decoding.native.packing import (
    interleave,
    pad_outputs,
    panels,
    rank_panels,
    stack_parts,
)


@given(
    outputs=st.integers(1, 70),
    pairs=st.integers(1, 9),
    vectors=st.sampled_from([1, 2]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_every_weight_is_where_the_step_looks_for_it(
    outputs: int, pairs: int, vectors: int, dtype: torch.dtype
) -> None:
    inputs, width = 2 * pairs, 2 if dtype == torch.bfloat16 else 1
    # Whole numbers up to 255 are exact in bfloat16.
    weight = (torch.arange(outputs * inputs) % 251).view(outputs, inputs).to(dtype)
    flat = panels(weight, vectors).flatten()
    for output in range(outputs):
        panel, inside = divmod(output, vectors * 16)
        vector, lane = divmod(inside, 16)
        for k in range(inputs):
            group, within = divmod(k, width)
            at = (((panel * (inputs // width) + group) * vectors + vector) * 16 + lane) * width
            assert flat[at + within] == weight[output, k]


def test_padding_is_zero() -> None:
    padded = panels(torch.ones(17, 4), 1)
    assert padded.shape == (2, 4, 1, 16, 1)
    assert padded.sum() == 17 * 4


def test_gate_and_up_take_turns_by_sixteen() -> None:
    gate, up = torch.arange(32.0)[:, None], 100 + torch.arange(32.0)[:, None]
    joined = interleave(gate, up)[:, 0].tolist()
    assert joined == [
        *range(16),
        *range(100, 116),
        *range(16, 32),
        *range(116, 132),
    ]


def test_parts_start_at_whole_panels() -> None:
    stacked = stack_parts([torch.ones(16, 1), 2 * torch.ones(40, 1)])[:, 0]
    assert stacked.tolist() == [1.0] * 16 + [0.0] * 16 + [2.0] * 40 + [0.0] * 24


def test_rank_panels_put_sixteen_outputs_of_one_rank_side_by_side() -> None:
    up = torch.arange(64.0 * 3).view(64, 3)
    packed = rank_panels(up)
    assert packed.shape == (2, 2, 3, 16)
    assert packed[1, 0, 2].tolist() == [up[32 + i, 2] for i in range(16)]


@pytest.mark.parametrize(("rows", "wanted"), [(32, 32), (33, 64), (1, 32)])
def test_outputs_are_padded_to_a_multiple(rows: int, wanted: int) -> None:
    assert pad_outputs(torch.ones(rows, 2), 32).shape == (wanted, 2)
