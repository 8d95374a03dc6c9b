"""What people think of a version, in figures that operators read: pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from feedback.tracing import roles
from feedback.wilson import wilson_interval

if TYPE_CHECKING:
    from feedback.types import Rollout, VersionRecord


def kl_of(record: VersionRecord) -> float | None:
    """Return a version's KL to the base, in nats per reply, as its gate measured it."""
    found = record.figures.get("kl_per_reply")
    return float(found) if isinstance(found, int | float) else None


def version_row(record: VersionRecord, rollout: Rollout) -> dict[str, Any]:
    """Return a version as lists show it: without its manifest, and with what follows from it."""
    row = asdict(record)
    del row["manifest"]
    votes = record.up + record.down
    return {
        **row,
        "approval": record.approval,
        "interval": list(wilson_interval(record.up, votes)) if votes else None,
        "kl": kl_of(record),
        "live": record.version == rollout.live,
        "roles": roles(record.version, rollout),
    }
