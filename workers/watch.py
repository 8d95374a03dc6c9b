"""What a look reads from the record, and what it tells operators who asked for an update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.look import Decision, Facts, decide

if TYPE_CHECKING:
    from feedback.events import Run
    from feedback.store import Store
    from workers.settings import WorkerSettings


async def watch(store: Store, settings: WorkerSettings, *, now: float) -> Decision:
    """Decide from the record as it is now; waiting requests are answered where one is due.

    Raises:
        StoreUnavailableError: Redis is away.
    """
    decision = decide(
        await gather(store, now=now),
        min_votes=settings.min_votes,
        update_interval=settings.update_interval,
    )
    if decision.answer is not None:
        await answer_requests(store, decision.answer, run=decision.run)
    return decision


async def gather(store: Store, *, now: float) -> Facts:
    """Read the facts of a decision; a bounded number of small reads."""
    newest = next(iter(await store.runs.list(1)), None)
    opened = await store.runs.open()
    return Facts(
        now=now,
        paused=await store.learning.paused(),
        open_run=opened.number if opened else None,
        lease_held=opened is not None and await store.runs.lease_held(),
        unpromoted=await _unpromoted(store, newest),
        waiting_votes=await store.votes.count_waiting(),
        requests=len(await store.learning.waiting_requests()),
        last_claim=newest.claimed_at if newest else None,
    )


async def answer_requests(store: Store, answer: str, *, run: int | None) -> None:
    """Tell every waiting request the same."""
    for request in await store.learning.waiting_requests():
        await store.learning.answer(request.id, run=run, answer=answer)


async def _unpromoted(store: Store, newest: Run | None) -> str | None:
    """Return the newest run's version if a crash came between its gate and its promotion.

    It is promoted only where the version that it was learned from is still live: an operator's
    choice in the meantime stands.
    """
    if newest is None or newest.state != "approved" or newest.version is None:
        return None
    if (await store.versions.get(newest.version)).state != "approved":
        return None
    live = (await store.rollout.get()).live
    return newest.version if live == newest.parent else None
