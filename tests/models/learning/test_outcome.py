"""What the gate and the rollout read of an update's report."""

from __future__ import annotations

from typing import Any

import pytest

from models.learning.outcome import evidence_of, moved

TELLING = {"chance": 0.01, "shortcoming": None}
BY_CHANCE = {"chance": 0.6, "shortcoming": "Chance."}


@pytest.mark.parametrize(
    ("report", "chance"),
    [
        ({"steps": 8, "evidence": TELLING}, 0.01),
        # All votes were stale, and practice alone moved the policy.
        ({"steps": 0, "evidence": TELLING, "practice": {"steps": 6}}, 0.01),
        ({"steps": 0, "evidence": BY_CHANCE, "practice": {}}, None),
        # Only a correction was learned.
        ({"steps": 8, "evidence": BY_CHANCE}, None),
        ({"steps": 8, "evidence": {}}, None),
        ({}, None),
    ],
)
def test_only_what_votes_moved_needs_evidence(report: dict[str, Any], chance: float | None) -> None:
    assert evidence_of(report) == chance


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"steps": 8}, True),
        ({"steps": 0, "practice": {"steps": 6}}, True),
        ({"steps": 0, "practice": {}}, False),
        ({"steps": 0}, False),
        ({}, True),  # it says nothing of steps: an imported version
    ],
)
def test_a_version_without_steps_is_its_parent(report: dict[str, Any], *, expected: bool) -> None:
    assert moved(report) == expected
