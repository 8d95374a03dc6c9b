"""Number 5: Redis is away for long; people chat on, and everything comes back with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.faults.work import look_comes, run_comes

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.faults.site import Site
    from tests.support.faults.voters import Voters

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.mark.parametrize(
    ("how", "seconds"),
    [
        ("dead", 6),
        ("dead", 60),
        ("stopped", 60),
    ],
)
async def test_chat_goes_on_without_redis(
    site: Site, store: Store, voters: Voters, how: str, seconds: float
) -> None:
    await site.start_api()
    site.start_workers()
    await run_comes(site, store, voters, 60)
    acknowledged_before = voters.votes[200]
    if how == "dead":
        site.redis.kill()
    else:
        site.redis.pause()
    alive = await chat_and_vote_without_redis(site, voters, seconds)
    without = voters.chats["unrecorded"]
    assert voters.votes[200] == acknowledged_before
    if how == "dead":
        await site.redis.start()
    else:
        site.redis.resume()
    look = await look_comes(store, 60)
    update = await run_comes(site, store, voters, 60)
    found = await voters.count()
    print(
        f"Redis {how} for {seconds:g} s: {alive} times alive, {without} chats without it; a look "
        f"{look:.1f} s and an update {look + update:.1f} s after it; {voters.summary()}; replies "
        f"with a vote {found.promised}, found {found.kept}"
    )
    assert found.lost == []
    assert all("try again" in message for message in voters.messages)


async def chat_and_vote_without_redis(site: Site, voters: Voters, seconds: float) -> int:
    """Go on as people do; return how often ``/livez`` said yes."""
    alive = 0
    async with asyncio.timeout(seconds + 20):
        until = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < until:
            assert await site.answers("/livez")
            alive += 1
            reply = await voters.chat()
            assert not reply["recorded"]
            assert (await voters.vote(voters.ballots[0])).status_code == 503
    return alive
