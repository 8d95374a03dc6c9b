"""Number 4: the end of the append-only file is cut off; what was promised before it is there."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from feedback.errors import UnknownCompletionError
from feedback.rewards import reward
from feedback.types import Vote
from tests.support.faults.learners import ANN, make_completion

if TYPE_CHECKING:
    from collections.abc import Callable

    from feedback.store import Store
    from tests.support.faults.site import Site

pytestmark = pytest.mark.anyio

REPLIES = 8
VOTES = 40


async def write_votes(site: Site) -> list[tuple[int, str, int]]:
    """Vote; return for each vote where the file ended when it was promised, and its number."""
    store = site.store()
    for number in range(REPLIES):
        await store.completions.record(make_completion(f"c{number}"))
    promised = []
    for number in range(VOTES):
        completion_id = f"c{number % REPLIES}"
        vote = Vote(thumb="up" if number % 3 else "down", comment=str(number))
        await store.votes.put(completion_id, ANN, vote, reward(vote), now=2000.0 + number)
        end = site.redis.append_only_file.stat().st_size
        promised.append((end, completion_id, number))
    await store.close()
    return promised


@pytest.mark.parametrize("cuts", [10, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.timeout(600)
async def test_a_cut_tail_loses_nothing_that_was_promised_before_it(
    site: Site, make_site: Callable[..., Site], cuts: int
) -> None:
    promised = await write_votes(site)
    whole = site.redis.append_only_file.read_bytes()
    site.redis.kill()
    chance = random.Random(cuts)
    # The first cut takes one byte: the last vote goes, and Redis starts all the same.
    places = [len(whole) - 1, *(chance.randrange(promised[0][0], len(whole)) for _ in range(cuts))]
    after = make_site()
    votes = 0
    for place in places:
        after.redis.append_only_file.write_bytes(whole[:place])
        await after.redis.start()
        expected = {reply: number for end, reply, number in promised if end <= place}
        store = after.store()
        for reply, number in expected.items():
            found = await store.votes.get(reply, ANN)
            assert int(found.vote.comment or "") == number
            votes += 1
        if place == places[0]:
            await votes_again(store)
        await store.close()
        with after.redis.client() as redis:
            assert redis.config_get("aof-load-truncated")["aof-load-truncated"] == "yes"
        after.redis.kill()
    print(f"{len(places)} cuts: votes promised before them {votes}, found {votes}")
    assert votes > cuts


async def votes_again(store: Store) -> None:
    """See that a Redis with a cut file takes and keeps votes."""
    vote = Vote(thumb="up", comment="after")
    await store.votes.put("c0", ANN, vote, reward(vote), now=3000.0)
    assert (await store.votes.get("c0", ANN)).vote == vote
    with pytest.raises(UnknownCompletionError):
        await store.votes.get("c999", ANN)
