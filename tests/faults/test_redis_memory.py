"""Number 3: Redis is at its maxmemory; it refuses, throws nothing away, and recovers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.faults.processes import happens
from tests.support.faults.work import LEARN_LIST, look_comes, run_comes

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.faults.site import Site
    from tests.support.faults.voters import Voters

pytestmark = [pytest.mark.anyio, pytest.mark.long]


async def test_full_memory_refuses_votes_and_evicts_nothing(
    site: Site, store: Store, voters: Voters
) -> None:
    await site.start_api()
    learner = site.start_workers()
    await run_comes(site, store, voters, 60)
    redis = site.redis.client()
    # The hardest moment: the learner takes a doorbell and cannot note in Redis that it did.
    learner.pause()
    async with voters.at_work():
        await happens(lambda: redis.llen(LEARN_LIST), 30, "A doorbell")
    acknowledged = voters.votes[200]
    redis.config_set("maxmemory", "100kb")
    learner.resume()
    async with voters.at_work():
        await asyncio.sleep(5)
    ballot = voters.ballots[0]
    assert (await voters.vote(ballot)).status_code == 503
    assert (await voters.feedback(ballot)).status_code == 200
    assert voters.votes[200] == acknowledged
    assert await site.answers("/livez")
    assert redis.info("stats")["evicted_keys"] == 0
    refused = voters.votes[503]
    redis.config_set("maxmemory", "0")
    look = await look_comes(store, 60)
    update = await run_comes(site, store, voters, 60)
    found = await voters.count()
    print(
        f"full memory: {voters.summary()}, refused while full {refused}; replies with a vote "
        f"{found.promised}, found {found.kept}; a look {look:.1f} s and an update "
        f"{look + update:.1f} s after it; runs {len(await store.runs.list(100))}"
    )
    redis.close()
    assert found.lost == []
    assert voters.chats["unrecorded"] > 0
    assert all("Check its memory" in message for message in voters.messages)
    assert all(child.alive() for child in site.children)
