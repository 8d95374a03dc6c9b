"""The doctor's check of the updates: votes become versions, and versions pass the gate."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from service.operating.checks.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.types import Run

LOOKED_BACK = 10
"""How many of the newest runs are checked."""
_MANY = 3
"""Rejections in a row that make a finding."""
_OPEN = {"claimed", "committed"}


def check_updates(runs: Sequence[Run]) -> Finding:
    """Check that the newest update run was not set aside, nor several in a row rejected.

    Args:
        runs: Of the ledger, newest first.
    """
    ended = [run for run in runs if run.state not in _OPEN]
    if not ended:
        return Finding("updates", ok=True, found="no update run has ended yet")
    last = ended[0]
    found = f"run {last.number} is {last.state}" + (f": {last.reason}" if last.reason else "")
    if last.state == "quarantined":
        mend = f"See `thumbloop updates show {last.number}`. Other votes are learned meanwhile."
        return Finding("updates", ok=False, found=found, mend=mend)
    rejected = sum(1 for _ in takewhile(lambda run: run.state == "rejected", ended))
    if rejected < _MANY:
        return Finding("updates", ok=True, found=found)
    mend = (
        f"People want what a bound of the gate forbids, or {last.parent} stands at that bound. Go "
        "back to an earlier version, or see docs/concepts/gate.md for the bound named here."
    )
    return Finding("updates", ok=False, found=f"{rejected} rejected in a row; {found}", mend=mend)
