"""One update run, in numbered steps: claim, learn, publish, commit, gate, promote.

Each step leaves the record so that a learner that dies after it is followed by one that goes on
from there: a batch becomes exactly one version.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from feedback.batching import setbacks_in_a_row
from feedback.errors import FencedError, StoreUnavailableError
from models.errors import AdapterError, GateError, LearningError
from models.failpoints import failpoint
from models.timing import Stopwatch
from workers.earlier_votes import earlier_votes
from workers.gating import HINDRANCES, gate, gate_imported
from workers.lease import StopFlag, under_lease
from workers.observation import answer_requests, next_batch, watch
from workers.progress import STARTS, ProgressLog
from workers.promotion import PassedVersion, promote, promote_newest
from workers.samples import make_batch
from workers.tidy import tidy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from feedback.store import Store
    from feedback.types import Run
    from models.adapters import Manifest
    from models.types import Progress, Sample
    from workers.resources import UpdateResources
    from workers.samples import Batch
    from workers.scheduling import Decision

logger = logging.getLogger(__name__)

LOOKED_BACK = 10
"""Newest runs among which those are counted that were refused in a row."""
DEATHS_PER_FAILURE = 3
"""A learner that is killed counts no failure; so many deaths for each allowed one end a run."""


async def run_update(resources: UpdateResources) -> Run | None:
    """Do what the record calls for now: nothing, a new run, or the rest of an interrupted one.

    Returns:
        The run that was worked on, as the ledger has it afterwards.

    Raises:
        StoreUnavailableError: Redis is away. An open run is taken up again once it is back.
        asyncio.CancelledError: Stopped from outside; the run was given back.
    """
    decision = await watch(resources.store, resources.settings, now=resources.clock())
    if decision.action == "rest":
        return None
    if decision.action == "gate":
        await gate_imported(resources)
        return None
    if decision.action == "promote":
        return await promote_newest(resources)
    run = await _claim_or_take_over(resources, decision)
    if run is None:
        return None
    passed = await _carry_out(resources, run)
    if passed is not None:
        await promote(resources, run, passed)
    return await resources.store.runs.get(run.number)


async def _claim_or_take_over(resources: UpdateResources, decision: Decision) -> Run | None:
    """Step 1: freeze a batch of votes, or take over the run of a learner that fell silent."""
    if decision.action == "take_over":
        return await _take_over(resources)
    store = resources.store
    parent = (await store.rollout.get()).live
    votes = await next_batch(store, resources.settings)
    failpoint("claim.before")
    run = await store.runs.claim(
        votes, parent=parent, min_votes=decision.min_votes, now=resources.clock()
    )
    if run is not None:
        failpoint("claim.after")
        logger.info("Run %d learns from %d votes on %s.", run.number, len(run.votes), parent)
        await answer_requests(store, f"Run {run.number} has begun.", run=run.number)
    return run


async def _take_over(resources: UpdateResources) -> Run | None:
    run = await resources.store.runs.take_over()
    if run is None:
        return None
    failpoint("take_over.after")
    logger.info("Run %d is taken over (attempt %d).", run.number, run.attempts)
    if run.deaths >= DEATHS_PER_FAILURE * resources.settings.max_attempts:
        await _fail(resources, run, f"The run's learner died {run.deaths} times.", last=True)
        return None
    return run


async def _carry_out(resources: UpdateResources, run: Run) -> PassedVersion | None:
    """Steps 2 to 5 under the lease; every way to fail leaves the run where it can go on."""
    stop, progress = StopFlag(), ProgressLog(run.number)
    try:
        return await _within(
            resources.seconds,
            under_lease(
                _steps(resources, run, stop, progress),
                renew=lambda: resources.store.runs.renew(run, doing=progress.doing),
                lease=resources.settings.lease,
                stop=stop,
            ),
        )
    except FencedError:
        logger.warning("Run %d was taken over by another learner; it is left alone.", run.number)
    except StoreUnavailableError:
        logger.warning("Redis went away during run %d; it is taken up again later.", run.number)
        await _give_back(resources, run)
        raise
    except asyncio.CancelledError:
        await _give_back(resources, run)
        raise
    except (*HINDRANCES, GateError) as error:
        # No fault of the batch, and the next one would fare no better: its votes keep waiting. A
        # GateError is about the gate's own prompts, which an operator has to correct.
        logger.exception("Run %d cannot go on for now.", run.number)
        await _give_back(resources, run, hindered_by=str(error) or repr(error))
    except AdapterError as error:
        await _leave_broken(resources, run, str(error))
    except Exception as error:
        # Whatever is wrong with one batch must not keep the next from being learned.
        logger.exception("Run %d failed.", run.number)
        await _fail(resources, run, str(error) or repr(error))
    return None


async def _within(
    seconds: float | None, work: Awaitable[PassedVersion | None]
) -> PassedVersion | None:
    """Return what ``work`` returns, unless it takes too long: a batch may be to blame for that.

    Raises:
        LearningError: It took too long.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError as error:
        if not limit.expired():  # a disk's, say: it is an OSError too
            raise
        raise LearningError(f"It took longer than {seconds:g} s.") from error


async def _steps(
    resources: UpdateResources, run: Run, stop: StopFlag, progress: ProgressLog
) -> PassedVersion | None:
    await tidy(resources.store, resources.adapters, run, keep=resources.settings.keep_versions)
    if run.state == "claimed":
        version = await _learn_and_commit(resources, run, stop, progress)
    else:
        version = run.version or ""
    return await _pass_gate(resources, run, version, stop, progress)


async def _learn_and_commit(
    resources: UpdateResources, run: Run, stop: StopFlag, progress: ProgressLog
) -> str:
    """Steps 2 to 4; a batch that an earlier attempt published is not learned again."""
    manifest = await asyncio.to_thread(
        resources.adapters.find_batch, run.number, run.batch_hash, run.parent
    )
    if manifest is None:
        manifest, report = await _learn_and_publish(resources, run, stop, progress)
    else:
        logger.info("Run %d was published as %s before.", run.number, manifest.version)
        report = {"published_by_earlier_attempt": True, "votes": len(run.votes)}
    failpoint("commit.before")
    await resources.store.runs.commit(
        run,
        version=manifest.version,
        manifest=manifest.as_dict(),
        report=report,
        now=resources.clock(),
    )
    failpoint("commit.after")
    logger.info("Run %d is committed as %s.", run.number, manifest.version)
    return manifest.version


async def _learn_and_publish(
    resources: UpdateResources, run: Run, stop: StopFlag, progress: ProgressLog
) -> tuple[Manifest, dict[str, Any]]:
    """Step 2, learn from the frozen votes; step 3, save the adapter."""
    stopwatch = Stopwatch()
    batch = await _read_batch(resources.store, run)
    failpoint("batch.read")
    earlier = await earlier_votes(
        resources.store, resources.settings.effective_recipe, batch=len(batch.samples)
    )
    setbacks = await _setbacks(resources.store, run)
    progress.doing = STARTS
    with stopwatch.phase("start"):
        # The lease is renewed seldom, and this may take long. Whether the run is lost, the next
        # renewal finds out.
        with contextlib.suppress(StoreUnavailableError, FencedError):
            await resources.store.runs.renew(run, doing=progress.doing)
        learner = await resources.learner()
    progress.doing = "weighs the votes"
    learned = await asyncio.to_thread(
        learner.learn,
        batch.samples,
        parent=run.parent,
        seed=run.number,
        progress=_progress(stop, progress),
        earlier=earlier,
        setbacks=setbacks,
    )
    failpoint("learn.after")
    if why := learned.report.get("evidence", {}).get("shortcoming"):
        logger.info("Run %d leaves the policy where it is. %s", run.number, why)
    # A learner that slept past its lease must not even publish; one whose Redis is away may, for
    # the commit decides, and what is published need not be learned again.
    with contextlib.suppress(StoreUnavailableError):
        await resources.store.runs.renew(run, doing="publishes the adapter")
    with stopwatch.phase("publish"):
        manifest = await asyncio.to_thread(
            learner.publish,
            learned,
            sequence=run.number,
            parent=run.parent,
            batch_hash=run.batch_hash,
            fence=run.fence,
            now=resources.clock(),
        )
    return manifest, _report(learned.report, batch, earlier, stopwatch)


async def _setbacks(store: Store, run: Run) -> int:
    runs = await store.runs.list(LOOKED_BACK)
    versions = await store.versions.get_many([each.version for each in runs if each.version])
    rolled_back = {each.version for each in versions if each.state == "rolled_back"}
    return setbacks_in_a_row(runs, run, rolled_back)


async def _read_batch(store: Store, run: Run) -> Batch:
    completions = await store.completions.get_many([v.completion_id for v in run.votes])
    corrections = await store.votes.corrections(run.votes)
    batch = make_batch(run.votes, completions, corrections)
    if not batch.samples:
        raise LearningError(
            "None of the batch's completions can be learned from: "
            f"{len(batch.missing)} are gone, {len(batch.mismatched)} are damaged."
        )
    return batch


def _report(
    learned: dict[str, Any], batch: Batch, earlier: Sequence[Sample], stopwatch: Stopwatch
) -> dict[str, Any]:
    """Add to the learner's own report what only the update knows."""
    return {
        **learned,
        "dropped_missing": len(batch.missing),
        "dropped_mismatched": len(batch.mismatched),
        "practice_vote_ids": [vote.completion_id for vote in earlier],
        "seconds": {**learned.get("seconds", {}), **stopwatch.seconds},
    }


async def _pass_gate(
    resources: UpdateResources, run: Run, version: str, stop: StopFlag, progress: ProgressLog
) -> PassedVersion | None:
    """Step 5: measure the candidate and hold it against the gate's bounds."""
    progress.doing = "waits for the gate's figures"
    found = await gate(resources, version, _progress(stop, progress))
    failpoint("probe.after")
    state = await resources.store.runs.finish(
        run,
        "approved" if found.verdict.passed else "rejected",
        figures=found.figures,
        reason=found.verdict.reason,
        now=resources.clock(),
    )
    failpoint("finish.after")
    if state == "approved":
        return PassedVersion(version, found.figures)
    reason = found.verdict.reason or f"{run.parent} was rolled back meanwhile"
    logger.warning("%s is rejected: %s.", version, reason)
    return None


async def _leave_broken(resources: UpdateResources, run: Run, reason: str) -> None:
    """Leave a run of which an adapter cannot be used: its candidate, or else its parent."""
    if run.state != "claimed":
        await _fail(resources, run, reason)
    elif (await resources.store.rollout.get()).live == run.parent:
        # The batch is not to blame either. `thumbloop doctor` reports the adapter.
        await _give_back(resources, run, hindered_by=reason)
    else:  # people have replaced it: the next run learns the same votes from what is live now
        await _fail(resources, run, reason, last=True, return_votes=True)


async def _fail(
    resources: UpdateResources,
    run: Run,
    reason: str,
    *,
    last: bool = False,
    return_votes: bool = False,
) -> None:
    """Count a failure: the run is tried again or, after too many, quarantined."""
    most = 1 if last else resources.settings.max_attempts
    try:
        state = await resources.store.runs.fail(
            run, reason=reason, max_attempts=most, return_votes=return_votes, now=resources.clock()
        )
    except (FencedError, StoreUnavailableError) as error:
        logger.warning("The failure of run %d could not be noted: %s", run.number, error)
    else:
        logger.warning("Run %d is %s after a failure: %s", run.number, state, reason)


async def _give_back(resources: UpdateResources, run: Run, *, hindered_by: str = "") -> None:
    """Let the next learner go on at once, or after a rest, instead of after the lease."""
    try:
        await resources.store.runs.release(run, hindered_by=hindered_by)
    except (FencedError, StoreUnavailableError) as error:
        logger.warning("Run %d could not be given back: %s", run.number, error)
    else:
        logger.info("Run %d is given back; the next learner goes on with it.", run.number)


def _progress(stop: StopFlag, log: ProgressLog) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        stop.check()
        failpoint("learn.midst")
        log(progress)

    return report
