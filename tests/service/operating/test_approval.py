from __future__ import annotations

import pytest

from feedback.types import VersionRecord
from service.operating.approval import kl_of, wilson


# From Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("up", "votes", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_wilson_s(up: int, votes: int, low: float, high: float) -> None:
    found = wilson(up, votes - up)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_without_votes_there_is_no_interval() -> None:
    assert wilson(0, 0) is None


@pytest.mark.parametrize(("figures", "kl"), [({"kl_per_reply": 2}, 2.0), ({}, None)])
def test_the_kl_is_the_gate_s(figures: dict[str, object], kl: float | None) -> None:
    assert kl_of(VersionRecord("v", "live", "base", 1.0, figures=figures)) == kl
