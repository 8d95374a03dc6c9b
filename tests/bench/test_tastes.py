"""How far each taste lets the base and the best of its replies come."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench.learning.measure import CEILING_OF
from bench.learning.remembered import Reply
from bench.learning.tastes import Reach, reach
from bench.support.paths import RESULTS
from service.simulate.tastes import TASTES

if TYPE_CHECKING:
    from collections.abc import Sequence

RECORDED = json.loads((RESULTS / "tastes.json").read_text(encoding="utf-8"))["tastes"]


class OneInSixteen:
    """Answers briefly to every sixteenth request, and else at length."""

    def ask(self, prompts: Sequence[str], version: str, seeds: Sequence[int]) -> list[Reply]:
        texts = ("word " * (60 if seed % CEILING_OF else 5) for seed in seeds)
        return [
            Reply(p, (1,), (2,), (-1.0,), t, ended=True)
            for p, t in zip(prompts, texts, strict=True)
        ]

    def base_logprobs(self, replies: Sequence[Reply]) -> list[float]:
        return [-1.0] * len(replies)


def test_the_base_is_the_mean_of_its_replies_and_the_ceiling_their_best() -> None:
    assert reach("brief", OneInSixteen()) == Reach("control", base=1 / 16, ceiling=1.0)


@pytest.mark.parametrize(
    ("base", "ceiling", "of_use"),
    [
        (0.15, 0.4, True),
        (0.14, 0.9, False),  # votes would tell nothing
        (0.6, 0.85, True),
        (0.61, 0.99, False),  # little is left to learn
        (0.3, 0.54, False),  # the noise would be as large as the gap
    ],
)
def test_a_taste_is_of_use_between_bounds(base: float, ceiling: float, *, of_use: bool) -> None:
    assert Reach("telling", base, ceiling).of_use is of_use
    assert Reach("control", base, ceiling).of_use


def test_every_taste_is_recorded_with_what_it_is_for() -> None:
    assert {name: each["half"] for name, each in RECORDED.items()} == {
        name: taste.half for name, taste in TASTES.items()
    }


@pytest.mark.parametrize("taste", RECORDED)
def test_the_recorded_figures_are_those_of_a_taste_of_use(taste: str) -> None:
    assert Reach(**RECORDED[taste]).of_use
