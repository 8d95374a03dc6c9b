"""The random numbers of a reply: its seed and its choice, and nobody else's."""

from __future__ import annotations

import pytest

from models.decoding.row import Row
from models.types import GenerationRequest, Sampling


def _numbers(seed: int | None, choice: int = 0) -> tuple[float, ...]:
    request = GenerationRequest("r", (1,), sampling=Sampling(seed=seed), choice=choice)
    row = Row(request, frozenset())
    return tuple(row.draw().uniform for _ in range(4))


def test_no_two_seeds_and_choices_share_random_numbers() -> None:
    asked = [
        (seed, choice) for seed in (-(2**63), -5, -2, 0, 1, 5, 6, 2**63 - 1) for choice in range(4)
    ]
    assert len({_numbers(*each) for each in asked}) == len(asked)


@pytest.mark.parametrize(("seed", "choice"), [(5, 0), (-5, 0), (5, 3), (2**63 - 1, 1)])
def test_a_seed_repeats_its_numbers(seed: int, choice: int) -> None:
    assert _numbers(seed, choice) == _numbers(seed, choice)


def test_without_a_seed_they_are_new_each_time() -> None:
    assert _numbers(None) != _numbers(None)
