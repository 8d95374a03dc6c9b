"""What people think of a version, in figures that operators read: pure."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from feedback.tracing import roles

if TYPE_CHECKING:
    from feedback.types import Rollout, VersionRecord

_Z = 1.959964
"""The normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The ends of an interval of a share, in [0, 1]."""

    low: float
    high: float


def wilson(up: int, down: int) -> Interval | None:
    """Return the 95 % score interval of ``up`` approvals in ``up + down`` votes; None without any.

    Wilson, Journal of the American Statistical Association 22 (1927): it keeps within [0, 1], and
    says something of few votes too.
    """
    votes = up + down
    if votes <= 0:
        return None
    share = up / votes
    scale = 1 + _Z**2 / votes
    middle = (share + _Z**2 / (2 * votes)) / scale
    half = _Z / scale * math.sqrt(share * (1 - share) / votes + _Z**2 / (4 * votes**2))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def kl_of(record: VersionRecord) -> float | None:
    """Return a version's KL to the base, in nats per reply, as its gate measured it."""
    found = record.figures.get("kl_per_reply")
    return float(found) if isinstance(found, int | float) else None


def version_row(record: VersionRecord, rollout: Rollout) -> dict[str, Any]:
    """Return a version as lists show it: without its manifest, and with what follows from it."""
    row = asdict(record)
    del row["manifest"]
    interval = wilson(record.up, record.down)
    return {
        **row,
        "approval": record.approval,
        "interval": [interval.low, interval.high] if interval else None,
        "kl": kl_of(record),
        "live": record.version == rollout.live,
        "roles": roles(record.version, rollout),
    }
