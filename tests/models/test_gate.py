from __future__ import annotations

from dataclasses import replace

import pytest

from models.gate import GateBounds, GateFigures, judge

GOOD = GateFigures(
    replies=16,
    finite=True,
    kl_per_reply=5.0,
    repetition=0.1,
    empty=0.0,
    distinct=1.0,
    mean_tokens=30.0,
)
BOUNDS = GateBounds(max_kl=40.0, max_repetition=0.5)


def test_an_honest_update_passes() -> None:
    verdict = judge(GOOD, BOUNDS)
    assert verdict.passed
    assert verdict.reason is None


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"finite": False}, "finite weights"),
        ({"replies": 0}, "replies"),
        ({"kl_per_reply": 40.1}, "KL to base"),
        ({"kl_per_reply": float("nan")}, "KL to base"),
        ({"repetition": 0.51}, "repetition"),
        ({"empty": 0.3}, "empty replies"),
        ({"distinct": 0.4}, "distinct replies"),
    ],
)
def test_each_bad_figure_fails_its_own_check(change: dict[str, float], failed: str) -> None:
    verdict = judge(replace(GOOD, **change), BOUNDS)
    assert not verdict.passed
    assert [c.name for c in verdict.checks if not c.passed] == [failed]
    assert verdict.reason is not None
    assert failed in verdict.reason


def test_a_figure_on_its_bound_passes() -> None:
    assert judge(replace(GOOD, kl_per_reply=40.0, repetition=0.5), BOUNDS).passed
