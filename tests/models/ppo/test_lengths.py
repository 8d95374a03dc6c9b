from __future__ import annotations

import pytest
import torch

from models.ppo.lengths import length_divisors
from models.ppo.losses import policy_loss

# replies of 4, 1 and no tokens
MASK = torch.tensor([[True] * 4, [True, False, False, False], [False] * 4])


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        # the two replies that count have shares of 2/3 of the rows: 10 · 2/3
        ("constant", [20 / 3, 20 / 3, 1.0]),
        # 5 tokens over 3 rows
        ("token", [5 / 3, 5 / 3, 1.0]),
    ],
)
def test_divisors(form: str, expected: list[float]) -> None:
    found = length_divisors(MASK, form=form, constant=10.0)  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("constant", (-4 + 1) / 2 / 10),  # the sums of the two replies, over 10
        ("token", (-4 + 1) / 5),  # all five tokens
    ],
)
def test_what_a_long_liked_and_a_short_disliked_reply_come_to(form: str, expected: float) -> None:
    zeros, votes = torch.zeros(3, 4), torch.tensor([[1.0], [-1.0], [1.0]])
    divisors = length_divisors(MASK, form=form, constant=10.0)  # type: ignore[arg-type]
    result = policy_loss(
        zeros,
        zeros,
        votes.expand(3, 4),
        torch.ones(3, 4),
        MASK,
        clip=0.2,
        length_constant=divisors,
    )
    assert result.loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("form", ["constant", "token"])
def test_a_minibatch_that_keeps_nothing_divides_by_something(form: str) -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    found = length_divisors(nothing, form=form, constant=10.0)  # type: ignore[arg-type]
    assert found.tolist() == [1.0, 1.0]
