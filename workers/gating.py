"""The gate as a step: measures a candidate, holds it against the bounds, writes the report."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feedback.errors import RolloutConflictError, StoreUnavailableError
from feedback.types import Audit
from models.errors import BaseModelError
from models.gate import GateVerdict, blocked, decide
from models.timing import Stopwatch
from models.versions import RecordGateVerdict
from workers.lease import StopFlag

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.types import Progress
    from workers.resources import UpdateResources

logger = logging.getLogger(__name__)

HINDRANCES = (OSError, BaseModelError)
"""What no batch and no candidate is to blame for, and what passes: a full disk, a missing base, an
object store that is away. A want of memory may be a batch's fault."""


MOST_GATINGS = 9
"""A candidate whose gate killed its worker so often is rejected: others get their turn."""


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """The gate's verdict on a version, and all that it was reached by, JSON-able."""

    version: str
    verdict: GateVerdict
    figures: dict[str, Any]


async def gate(
    resources: UpdateResources, version: str, progress: Callable[[Progress], None]
) -> GateOutcome:
    """Measure a published version and hold it against the bounds.

    Raises:
        GateError: The operator's prompts cannot be used. Nothing goes live until they can.
        AdapterError: It, or the version that it was learned from, cannot be used.
        BaseModelError, OSError: The machine cannot measure anything for now.
    """
    stopwatch = Stopwatch()
    learner = await resources.learner()
    with stopwatch.phase("probe"):
        measured = await asyncio.to_thread(learner.probe, version, progress)
    verdict = decide(measured, resources.settings.gate_bounds, resources.settings.gate_advisory)
    for warning in verdict.warnings:
        logger.warning("%s: %s; this check is advisory.", version, warning)
    figures = {**measured.as_dict(), **verdict.as_dict(), "seconds": stopwatch.seconds}
    return GateOutcome(version, verdict, figures)


async def gate_imported(resources: UpdateResources) -> GateOutcome | None:
    """Gate the oldest candidate that no update run made, as any other.

    One that the gate cannot measure is rejected with the reason, so that it does not keep those
    behind it, and the learner, waiting; it can be imported again.

    Returns:
        What was found; None where none waits, another worker was quicker, or the machine cannot
        measure anything for now: the candidate then keeps waiting, and the gate rests.

    Raises:
        StoreUnavailableError: Redis is away; the candidate keeps waiting.
        asyncio.CancelledError: Stopped from outside; the candidate keeps waiting.
    """
    store = resources.store
    version = await store.versions.ungated()
    if version is None:
        return None
    begun = await store.versions.count_gating(version)
    try:
        found = await _measured(resources, version, begun)
    except (StoreUnavailableError, asyncio.CancelledError):
        with contextlib.suppress(StoreUnavailableError):
            await store.versions.count_gating(version, -1)
        raise
    if found is None:
        await store.versions.count_gating(version, -1)
        await store.runs.rest()
        return None
    return found if await _write(resources, found) else None


async def _measured(resources: UpdateResources, version: str, begun: int) -> GateOutcome | None:
    """Return what the gate finds, or why it cannot; None where that is the machine's fault."""
    if begun > MOST_GATINGS:
        return _blocked(version, f"its gate was begun {begun - 1} times, and its worker died.")
    stop = StopFlag()
    limit = asyncio.timeout(resources.seconds)
    try:
        await resources.learner()
    except Exception:
        logger.exception(
            "The gate cannot check %s for now; nobody is served by that version.", version
        )
        return None
    try:
        async with limit:
            return await gate(resources, version, lambda _: stop.check())
    except StoreUnavailableError:
        raise
    except Exception as error:
        if isinstance(error, HINDRANCES) and not limit.expired():
            logger.exception(
                "The gate cannot check %s for now; nobody is served by that version.", version
            )
            return None
        logger.exception("The gate cannot measure %s.", version)
        why = f"it took longer than {resources.seconds} s." if limit.expired() else str(error)
        return _blocked(version, f"the gate could not run: {why or repr(error)}")
    finally:
        stop.set()


def _blocked(version: str, why: str) -> GateOutcome:
    verdict = blocked(f"{why} Then import it again.")
    return GateOutcome(version, verdict, verdict.as_dict())


async def _write(resources: UpdateResources, found: GateOutcome) -> bool:
    """Write a verdict down; False where somebody else had the version judged already."""
    passed, reason = found.verdict.passed, found.verdict.reason
    try:
        await resources.store.rollout.do(
            RecordGateVerdict(found.version, "approved" if passed else "rejected"),
            Audit("gate", reason or "", resources.clock(), found.figures),
        )
    except RolloutConflictError as error:
        logger.info("The verdict on %s is not needed any more: %s", found.version, error)
        return False
    logger.info("%s is %s.", found.version, "approved" if passed else f"rejected: {reason}")
    return True
