"""Number 1 of the reliability notes: Redis is killed, again and again, while people vote."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.faults.site import Site
    from tests.support.faults.voters import Voters

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("kills", [4, pytest.param(25, marks=pytest.mark.long)])
async def test_no_vote_that_was_answered_200_is_lost(
    site: Site, voters: Voters, kills: int
) -> None:
    await site.start_api()
    chance = random.Random(kills)
    async with voters.at_work():
        for _ in range(kills):
            await asyncio.sleep(chance.uniform(0.2, 0.8))
            site.redis.kill()
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            await site.redis.start()
        await asyncio.sleep(0.5)
    found = await voters.count()
    print(
        f"{kills} kills: {voters.summary()}; replies with a vote {found.promised}, "
        f"found {found.kept}"
    )
    assert found.lost == []
    assert found.promised > 5 * kills
    assert voters.votes[503] > 0
    assert voters.chats["unrecorded"] > 0
    assert all("try again" in message for message in voters.messages)
