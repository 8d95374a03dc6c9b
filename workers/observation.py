"""Reads from the record whether there is work, and answers operators who asked for an update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback.batching import choose, sift
from workers.scheduling import Canary, Decision, WorkFacts, decide

if TYPE_CHECKING:
    from feedback.store import Store
    from feedback.types import FrozenVote, Rollout, Run, WaitingVote
    from workers.settings import WorkerSettings

READ_PER_VOTE = 4
"""Waiting votes that are read for each place in a batch: so many by age, and so many by turn."""

_READS = 4
"""Times that waiting votes are read while some of those read turn out to be too stale."""


async def watch(store: Store, settings: WorkerSettings, *, now: float) -> Decision:
    """Decide from the record as it is now; waiting requests are answered where one is due.

    Raises:
        StoreUnavailableError: Redis is away.
    """
    decision = decide(
        await gather(store, settings, now=now),
        min_votes=settings.min_votes,
        update_interval=settings.update_interval,
    )
    if decision.answer is not None:
        await answer_requests(store, decision.answer, run=decision.run)
    return decision


async def gather(store: Store, settings: WorkerSettings, *, now: float) -> WorkFacts:
    """Read the facts of a decision; a bounded number of small reads."""
    newest = next(iter(await store.runs.list(1)), None)
    opened = await store.runs.open()
    requests = len(await store.learning.waiting_requests())
    enough = 1 if requests else settings.min_votes
    rollout = await store.rollout.get()
    return WorkFacts(
        now=now,
        paused=await store.learning.paused(),
        open_run=opened.number if opened else None,
        lease_held=opened is not None and await store.runs.lease_held(),
        setback=await _setback(store, opened),
        canary=await _canary(store, rollout),
        ungated=await _ungated(store),
        unpromoted=await _unpromoted(store, rollout, newest),
        batch_size=await _batch_size(store, settings, enough),
        requests=requests,
        last_claim=newest.claimed_at if newest else None,
    )


async def _setback(store: Store, opened: Run | None) -> str | None:
    """Return why the open run failed, while it rests from that."""
    if opened is None or not await store.runs.resting():
        return None
    return opened.reason or "for an unknown reason."


async def _ungated(store: Store) -> str | None:
    """Return the import that waits longest for its gate, unless that rests: learning goes on."""
    version = await store.versions.ungated()
    return None if version is None or await store.runs.resting() else version


async def next_batch(store: Store, settings: WorkerSettings) -> tuple[FrozenVote, ...]:
    """Choose the batch that a run would claim now, from a bounded read of waiting votes."""
    return choose(
        await _fresh(store, settings),
        max_votes=settings.max_votes,
        max_user_share=settings.max_user_share,
        order=settings.batch_order,
    )


async def _fresh(store: Store, settings: WorkerSettings) -> tuple[WaitingVote, ...]:
    """Read waiting votes by age and by turn; those on too old versions are discarded on the way."""
    room = READ_PER_VOTE * settings.max_votes
    live = (await store.rollout.get()).live
    for _ in range(_READS):
        waiting = await store.votes.waiting(room, order=settings.batch_order, turns=room)
        sifted = sift(waiting, live=live, max_version_lag=settings.max_version_lag)
        if not sifted.stale:
            break
        await store.votes.discard(sifted.stale)
    return sifted.fresh


async def answer_requests(store: Store, answer: str, *, run: int | None) -> None:
    """Answer every waiting request alike."""
    for request in await store.learning.waiting_requests():
        await store.learning.answer(request.id, run=run, answer=answer)


async def _batch_size(store: Store, settings: WorkerSettings, enough: int) -> int:
    """Return how many votes a run would get; the cap on a user's share may leave votes waiting."""
    waiting = await store.votes.count_waiting()
    return waiting if waiting < enough else len(await next_batch(store, settings))


async def _canary(store: Store, rollout: Rollout) -> Canary | None:
    """Return the version that some users try, with what the judge said of it."""
    if rollout.canary is None:
        return None
    last = await store.judging.last()
    said = last.reasons[0] if last and last.reasons and last.test == (rollout.canary,) else ""
    return Canary(rollout.canary, rollout.fraction, said)


async def _unpromoted(store: Store, rollout: Rollout, newest: Run | None) -> str | None:
    """Return the newest run's version if a crash came between its gate and its promotion.

    It is promoted only where the version that it was learned from is still live, and nobody stopped
    it as a canary: an operator's choice in the meantime is kept.
    """
    if newest is None or newest.state != "approved" or newest.version is None:
        return None
    version = await store.versions.get(newest.version)
    if version.state != "approved" or version.stopped_at is not None:
        return None
    return newest.version if rollout.live == newest.parent else None
