"""Step 6 of an update: the version that passed its gate is served."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feedback.errors import RolloutConflictError
from feedback.types import Audit
from models.failpoints import failpoint
from models.learning.outcome import moved
from models.versions import Activate, StartCanary

if TYPE_CHECKING:
    from feedback.types import Run
    from workers.resources import UpdateResources

logger = logging.getLogger(__name__)

WHO = "learner"


@dataclass(frozen=True, slots=True)
class PassedVersion:
    """A version that passed its gate, with the figures behind that."""

    version: str
    figures: dict[str, Any]


async def promote(resources: UpdateResources, run: Run, passed: PassedVersion) -> None:
    """Serve a version that passed, first to a share of the users where there is one set.

    A version that has its parent's weights is served to all at once, because there is nothing to
    try. An operator's choice in the meantime is kept.
    """
    record = await resources.store.versions.get(passed.version)
    same_weights = not moved(record.manifest.get("figures", {}))
    fraction = 0.0 if same_weights else resources.settings.canary_fraction
    command = (
        StartCanary(passed.version, fraction, expected_live=run.parent)
        if fraction > 0
        else Activate(
            passed.version,
            expected_live=run.parent,
            only_from="approved",
            same_weights=same_weights,
        )
    )
    why = f"run {run.number} passed its gate"
    try:
        await resources.store.rollout.do(
            command, Audit(WHO, why, resources.clock(), passed.figures)
        )
    except RolloutConflictError as error:
        if (await resources.store.versions.get(passed.version)).state not in {"live", "canary"}:
            logger.warning("%s is not promoted: %s", passed.version, error)
    else:
        failpoint("promote.after")
        how = f"tried by {fraction:.0%} of the users" if fraction > 0 else "live"
        logger.info("%s is %s.", passed.version, how)


async def promote_newest(resources: UpdateResources) -> Run | None:
    """Do it for a run whose learner died between the gate and the promotion."""
    run = next(iter(await resources.store.runs.list(1)), None)
    if run is None or run.version is None or run.state != "approved":
        return None  # another learner promoted it, and claimed the next run already
    version = await resources.store.versions.get(run.version)
    await promote(resources, run, PassedVersion(version.version, version.figures))
    return run
