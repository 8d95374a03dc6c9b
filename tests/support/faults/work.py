"""Whether the workers of a site do their work, seen from the record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.support.faults.processes import happens

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.faults.site import Site
    from tests.support.faults.voters import Voters

LEARN_LIST = "celery:learn"
"""Where Celery keeps the learn queue's messages."""
ENDED = ("approved", "rejected", "quarantined")


async def look_comes(store: Store, seconds: float) -> float:
    """Wait until the control worker looks for work; return the seconds that took."""
    asked = time.time()

    async def looked() -> bool:
        return (await store.learning.last_look() or 0.0) > asked

    return await happens(looked, seconds, "A look for work")


async def run_comes(site: Site, store: Store, voters: Voters, seconds: float) -> float:
    """Vote enough for an update and wait until it has ended; return the seconds that took."""
    before = await ended(store)
    for _ in range(2):
        ballot = voters.ballot((await voters.chat())["id"], "ann")
        assert (await voters.vote(ballot)).status_code == 200

    async def another() -> bool:
        return await ended(store) > before

    return await happens(another, seconds, "An update")


async def ended(store: Store) -> int:
    """Return how many of the last hundred runs have ended."""
    return sum(run.state in ENDED for run in await store.runs.list(100))
