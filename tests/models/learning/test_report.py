"""What the gate reads of an update's report."""

from __future__ import annotations

from typing import Any

import pytest

from models.learning.report import evidence_of


@pytest.mark.parametrize(
    ("report", "bits"),
    [
        ({"steps": 8, "evidence": {"bits": 2.5, "shortcoming": None}}, 2.5),
        ({"steps": 0, "evidence": {"bits": -0.5, "shortcoming": "Chance."}}, None),
        # Only a correction was learned.
        ({"steps": 8, "evidence": {"bits": -0.5, "shortcoming": "Chance."}}, None),
        ({"steps": 8, "evidence": {}}, None),
        ({}, None),
    ],
)
def test_only_what_votes_moved_needs_evidence(report: dict[str, Any], bits: float | None) -> None:
    assert evidence_of(report) == bits
