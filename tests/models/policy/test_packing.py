from __future__ import annotations

import torch

from models.policy.batch import collate
from models.policy.packing import pack
from models.types import Sample


def _sample(prompt: tuple[int, ...], reply: tuple[int, ...]) -> Sample:
    return Sample("x", "u", prompt, reply, (-1.0,) * len(reply), 1.0, 1.0, "base", ended=True)


BATCH = collate(
    [_sample((1, 2), (3, 4)), _sample((1, 2), (3, 5)), _sample((2,), (3,))], range(3), device="cpu"
)


def test_each_distinct_prefix_is_there_once() -> None:
    packed = pack(BATCH)
    # 1 2 3 4 | 5 after 1 2 3 | 2 3 from the start: other prefixes, so other tokens
    assert packed.ids.tolist() == [1, 2, 3, 4, 5, 2, 3]
    assert packed.positions.tolist() == [0, 1, 2, 3, 3, 0, 1]
    assert packed.shape == (3, 4)
    assert packed.tokens.view(3, 4).tolist() == [[0, 1, 2, 3], [0, 1, 2, 4], [5, 6, 0, 0]]
    # the states before each reply token: of the second row's first two they are the first row's
    assert packed.kept.tolist() == [1, 2, 1, 2, 5]


def test_rows_of_one_length_that_share_nothing_need_no_copies() -> None:
    packed = pack(collate([_sample((1,), (2,)), _sample((3,), (4,))], range(2), device="cpu"))
    values = torch.randn(4, 3)
    assert packed.spread(values) is values
    assert packed.gather(values) is values
    assert packed.spread_gradient(values) is values
    assert packed.gather_gradient(values) is values


def test_the_gradients_are_the_transposes_of_the_copies() -> None:
    packed = pack(BATCH)
    tokens, cells = torch.randn(7, 2), torch.randn(12, 2)
    cells[10:] = 0  # padding
    moved = (packed.spread(tokens) * cells).sum()
    assert torch.allclose(moved, (tokens * packed.gather_gradient(cells)).sum(), atol=1e-6)
    moved = (packed.gather(cells) * tokens).sum()
    assert torch.allclose(moved, (cells * packed.spread_gradient(tokens)).sum(), atol=1e-6)
    assert torch.equal(packed.gather(packed.spread(tokens)), tokens)
