"""Scoring: the approval of versions, and which are scored."""

from __future__ import annotations

import pytest

from service.simulate.scoring import Score, pick_versions


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
