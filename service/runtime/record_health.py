"""What the record says of the workers, read in the background so that no request waits for it."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from feedback.errors import StoreUnavailableError
from feedback.retention import COUNTED_EVENTS
from service.timeouts import within

if TYPE_CHECKING:
    from feedback.retention import RecordHealth, SweepReport
    from feedback.store import Store
    from feedback.types import Judgement

log = logging.getLogger(__name__)

SILENT_SECONDS = 15.0
"""Workers look for work every two seconds; after this many without they are away."""

_EVERY_SECONDS = 2.0
_PATIENCE = timedelta(seconds=2)
_MISSED_SWEEPS = 3


class RecordWatch:
    """Reads the record's health again and again.

    Attributes:
        health: As last read; None before that.
        judgement: The judge's last verdict, as last read; None before the first.
        away: Whether Redis failed to answer the last time.
    """

    def __init__(self, store: Store) -> None:
        self.health: RecordHealth | None = None
        self.judgement: Judgement | None = None
        self.away = False
        self._store = store

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                await self.read()
            except Exception:
                log.exception("The record's health could not be read; the next attempt follows")
            await asyncio.sleep(_EVERY_SECONDS)

    async def read(self) -> None:
        """Read once."""
        try:
            self.health = await within(_PATIENCE, self._store.retention.health())
            self.judgement = await within(_PATIENCE, self._store.judging.last())
            self.away = False
        except StoreUnavailableError:
            self.away = True


def seconds_since(then: float | None, now: float) -> float | None:
    """Return how long ago a moment was; None if it never came."""
    return None if then is None else max(0.0, now - then)


def worker_problem(health: RecordHealth, *, now: float) -> str | None:
    """Return what is wrong with the workers, as far as the record says."""
    silent = seconds_since(health.last_look, now)
    if silent is None:
        return "No worker has looked for work yet."
    if silent >= SILENT_SECONDS:
        return f"No worker has looked for work for {silent:.0f} s."
    return None


def sweep_problem(health: RecordHealth, *, now: float, interval: timedelta) -> str | None:
    """Return what is wrong with retention; nothing while no worker runs, which says enough."""
    swept = health.swept
    if swept is None or worker_problem(health, now=now):
        return None
    silent = now - swept.at
    if silent > SILENT_SECONDS + _MISSED_SWEEPS * interval.total_seconds():
        return f"Expired records have not been swept out for {silent:.0f} s."
    if swept.rewrite == "wanted":
        return "Redis has not yet rewritten its append-only file since a user was deleted."
    return None


def unexported(swept: SweepReport) -> str:
    """Say how many events no export has; beyond some, they are not counted."""
    more = " or more" if swept.unexported_events >= COUNTED_EVENTS else ""
    return f"{swept.unexported_events}{more}"


def describe(watch: RecordWatch, *, now: float, interval: timedelta) -> dict[str, Any]:
    """Return what /readyz says of the record.

    A warning does not make a server unready: people can chat without workers.
    """
    health = watch.health
    if health is None:
        return {"last_look_seconds": None, "last_sweep_seconds": None, "log": None, "warnings": []}
    swept = health.swept
    problems = (worker_problem(health, now=now), sweep_problem(health, now=now, interval=interval))
    return {
        "last_look_seconds": _rounded(seconds_since(health.last_look, now)),
        "last_sweep_seconds": _rounded(seconds_since(swept.at if swept else None, now)),
        "log": {
            "events": health.log_events,
            "unexported": swept.unexported_events if swept else None,
        },
        # An old answer says nothing about workers while Redis is out of reach.
        "warnings": [] if watch.away else [each for each in problems if each],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
