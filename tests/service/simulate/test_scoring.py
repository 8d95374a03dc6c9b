"""Scoring: Wilson's interval against published values, and the choice of versions."""

from __future__ import annotations

import pytest

from service.simulate.scoring import Score, pick_versions, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_published_values(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_knows_nothing_without_trials() -> None:
    low, high = wilson_interval(30, 100)
    assert wilson_interval(70, 100) == pytest.approx((1 - high, 1 - low))
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_a_score_without_replies_has_no_approval_and_the_widest_interval() -> None:
    score = Score("base", replies=0, approved=0)
    assert score.approval == 0.0
    assert score.interval == (0.0, 1.0)


@pytest.mark.parametrize(
    ("seen", "picked"),
    [
        ([], ("base",)),
        (["base"], ("base",)),
        (["base", "a"], ("base", "a")),
        (["base", "a", "b", "c", "d"], ("base", "a", "b", "c", "d")),
        (["base", "a", "b", "c", "d", "e", "f", "g", "h"], ("base", "b", "d", "f", "h")),
        (["a", "b", "base", "b"], ("base", "a", "b")),
    ],
)
def test_the_base_the_last_and_versions_between_are_picked(
    seen: list[str], picked: tuple[str, ...]
) -> None:
    assert pick_versions(seen, base="base", between=3) == picked
