"""The gate as a step: measures a candidate, holds it against the bounds, writes the report."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feedback.errors import RolloutConflictError
from models.errors import BaseModelError, ModelsError
from models.gate import GateBounds, GateVerdict, blocked, judge
from models.timing import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.types import Progress
    from workers.workplace import Workplace

logger = logging.getLogger(__name__)

HINDRANCES = (OSError, BaseModelError)
"""What no candidate is to blame for, and what passes: a full disk, an object store that is away."""


@dataclass(frozen=True, slots=True)
class Gated:
    """The gate's verdict on a version, and all that it was reached by, JSON-able."""

    version: str
    verdict: GateVerdict
    figures: dict[str, Any]


async def gate(place: Workplace, version: str, progress: Callable[[Progress], None]) -> Gated:
    """Measure a published version and judge it.

    Raises:
        GateError: The operator's prompts cannot be used. Nothing goes live until they can.
        AdapterError: It, or the version that it was learned from, cannot be used.
        BaseModelError, OSError: The machine cannot measure anything for now.
    """
    stopwatch = Stopwatch()
    learner = await place.learner()
    with stopwatch.phase("probe"):
        measured = await asyncio.to_thread(learner.probe, version, progress)
    verdict = judge(measured, GateBounds.from_settings(place.settings))
    for warning in verdict.warnings:
        logger.warning("%s: %s; this check is advisory.", version, warning)
    figures = {**measured.as_dict(), **verdict.as_dict(), "seconds": stopwatch.seconds}
    return Gated(version, verdict, figures)


async def gate_imported(place: Workplace) -> Gated | None:
    """Gate the oldest candidate that no update run made, as any other.

    One that the gate cannot measure is rejected with the reason, so that it does not keep those
    behind it waiting; it can be imported again.

    Returns:
        What was found; None where none waits, another worker was quicker, or the machine cannot
        measure anything for now: the candidate then keeps waiting.

    Raises:
        StoreUnavailableError: Redis is away; the candidate keeps waiting.
    """
    version = await place.store.versions.ungated()
    if version is None:
        return None
    try:
        found = await gate(place, version, lambda _: None)
    except HINDRANCES:
        logger.exception("%s cannot be gated for now; nobody is served by it.", version)
        return None
    except ModelsError as error:
        verdict = blocked(f"the gate could not run: {error} Then import it again.")
        found = Gated(version, verdict, verdict.as_dict())
    return found if await _write(place, found) else None


async def _write(place: Workplace, found: Gated) -> bool:
    """Write a verdict down; False where somebody else had the version judged already."""
    passed, reason = found.verdict.passed, found.verdict.reason
    try:
        await place.store.rollout.verdict(
            found.version,
            "approved" if passed else "rejected",
            figures=found.figures,
            reason=reason,
            now=place.clock(),
        )
    except RolloutConflictError as error:
        logger.info("The verdict on %s is not needed any more: %s", found.version, error)
        return False
    logger.info("%s is %s.", found.version, "approved" if passed else f"rejected: {reason}")
    return True
