"""What became of an update, as its report says; it is read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def evidence_of(report: Mapping[str, Any]) -> float | None:
    """Return how often chance is as telling as the votes that moved the policy; None without any.

    An update without evidence may take steps for its corrections.
    """
    evidence = report.get("evidence", {})
    if not moved(report) or evidence.get("shortcoming") or evidence.get("chance") is None:
        return None
    return float(evidence["chance"])


def moved(report: Mapping[str, Any]) -> bool:
    """Whether an update's version differs from its parent, as far as the report says."""
    return report.get("steps") != 0 or bool(report.get("practice", {}).get("steps"))
