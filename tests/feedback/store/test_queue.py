"""Votes that wait: who comes into a bounded read, what expires, what is discarded."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feedback.batching import choose
from feedback.errors import UnknownCompletionError
from feedback.settings import FeedbackSettings
from feedback.store import Store, keys
from feedback.types import FrozenVote, Person, StaleVote, Vote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from feedback.types import Completion
    from tests.support.store.fixtures import ClaimVotes

    MakeCompletion = Callable[..., Completion]
    Voted = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio
ANN = Person("k1", "ann")
UP, DOWN = Vote(thumb="up"), Vote(thumb="down")
DAY = 24 * 3600

FILL = """
for i = 1, tonumber(ARGV[1]) do
  local id = ARGV[2] .. i
  redis.call('HSET', 'tl:completion:' .. id, 'owner', 'k1', 'user', ARGV[3], 'version', 'base')
  redis.call('HSET', 'tl:feedback:' .. id, 'scored', 1, 'score', '1.0', 'voted_at', i,
    'state', 'pending', 'revision', 1, 'owner', 'k1', 'user', ARGV[3], 'made_by', 'base')
  redis.call('ZADD', 'tl:feedback:ready', i, id)
  redis.call('ZADD', 'tl:feedback:expiring', 4e9 + i, id)
  redis.call('ZADD', 'tl:feedback:turns', i - 1 + i / 4e9, id)
end
redis.call('HINCRBY', 'tl:feedback:waiting', 'k1:' .. ARGV[3], ARGV[1])
redis.call('HINCRBY', 'tl:feedback:totals', 'pending', ARGV[1])
"""
"""Fills the queue as so many votes of one user would."""


async def fill(raw_redis: Redis, count: int, user: str = "flood") -> None:
    await raw_redis.eval(FILL, 0, count, f"{user}-", user)


async def vote(store: Store, completion: Completion, at: float, score: float = 1.0) -> None:
    await store.completions.record(completion)
    thumb = UP if score > 0 else DOWN
    await store.votes.put(completion.id, completion.person, thumb, score, now=at)


async def queues(raw_redis: Redis) -> tuple[set[Any], set[Any], dict[Any, Any]]:
    """Return the ids that wait by age and by turn, and how many each user has."""
    ready = await raw_redis.zrange(keys.READY, 0, -1)
    turns = await raw_redis.zrange(keys.TURNS, 0, -1)
    return set(ready), set(turns), await raw_redis.hgetall(keys.WAITING)


async def test_the_newest_come_first_if_that_is_asked_for(store: Store, voted: Voted) -> None:
    await voted("udu")
    newest = await store.votes.waiting(2, order="newest")
    assert [vote.completion_id for vote in newest] == ["c2", "c1"]


async def test_a_flood_does_not_hide_the_votes_of_others(
    store: Store, raw_redis: Redis, completion: MakeCompletion
) -> None:
    await fill(raw_redis, 5000)
    others = [f"user{i}" for i in range(6)]
    for i, user in enumerate(others):
        for j in range(3):
            name = f"{user}-{j}"
            await vote(store, completion(name, Person("k1", user)), 9000.0 + 10 * i + j)
    by_age = await store.votes.waiting(40)
    assert {vote.person.user for vote in by_age} == {"flood"}
    waiting = await store.votes.waiting(40, turns=40)
    assert len(waiting) <= 80
    assert len({vote.completion_id for vote in waiting}) == len(waiting)
    batch = choose(waiting, max_votes=10, max_user_share=0.25)
    names = [vote.completion_id for vote in batch]
    assert {name.rpartition("-")[0] for name in names} == {"flood", *others}
    assert sum(name.startswith("flood") for name in names) <= 2


async def test_turns_come_round_while_the_queue_is_worked_off(
    store: Store, raw_redis: Redis, completion: MakeCompletion
) -> None:
    for i in range(6):
        await vote(store, completion(f"a{i}", Person("k1", "a")), 2000.0 + i)
    votes = [FrozenVote(f"a{i}", 1, 1.0) for i in range(4)]
    assert await store.runs.claim(votes, parent="base", min_votes=4, now=3000.0)
    # a4 and a5 have the turns 4 and 5; whoever comes now comes in at the turn that is on, 4.
    for user, at in (("c", 2500.0), ("b", 2600.0)):
        await vote(store, completion(f"{user}0", Person("k1", user)), at)
    await vote(store, completion("c1", Person("k1", "c")), 2700.0)
    found = await store.votes.waiting(0, turns=9)
    assert [vote.completion_id for vote in found] == ["a4", "c0", "b0", "a5", "c1"]
    assert (await queues(raw_redis))[2] == {"k1:a": "2", "k1:b": "1", "k1:c": "2"}


async def test_every_way_out_of_the_queue_is_out_of_all_of_it(
    store: Store, raw_redis: Redis, voted: Voted
) -> None:
    await voted("uuuuuu")
    await store.votes.withdraw("c0", ANN, now=2500.0)
    await store.votes.put("c1", ANN, Vote(comment="hm"), None, now=2500.0)
    await store.completions.delete("c2", ANN)
    assert await store.votes.discard([StaleVote("c3", 1, "old")]) == 1
    run = await store.runs.claim([FrozenVote("c4", 1, 1.0)], parent="base", min_votes=1, now=3000.0)
    assert run is not None
    assert await queues(raw_redis) == ({"c5"}, {"c5"}, {"k1:ann": "1"})
    await raw_redis.delete(keys.completion("c5"))
    assert await store.votes.waiting(9) == []
    assert await queues(raw_redis) == (set(), set(), {})
    assert await raw_redis.exists(keys.EXPIRING) == 0


async def test_a_vote_that_is_given_back_waits_again_in_all_of_it(
    store: Store, raw_redis: Redis, voted: Voted, claimed: ClaimVotes
) -> None:
    run = await claimed("u")
    name = "v000001-0123456789ab"
    await store.runs.commit(run, version=name, manifest={}, report={}, now=3100.0)
    await store.runs.finish(run, "rejected", figures={}, reason="x", now=3200.0)
    assert await queues(raw_redis) == ({"c0"}, {"c0"}, {"k1:ann": "1"})
    assert await raw_redis.zcard(keys.EXPIRING) == 1


async def test_a_vote_that_is_given_back_after_its_completion_expired_is_found_at_any_place(
    store: Store, raw_redis: Redis, voted: Voted, claimed: ClaimVotes
) -> None:
    await voted("uuu", start=10)
    run = await claimed("u")
    name = "v000001-0123456789ab"
    await store.runs.commit(run, version=name, manifest={}, report={}, now=3100.0)
    await raw_redis.delete(keys.completion("c0"))
    await raw_redis.zadd(keys.READY, {"c10": 1})  # older than c0
    await store.runs.finish(run, "rejected", figures={}, reason="x", now=3200.0)
    assert await store.votes.expire(1, now=time.time() + 1) == 1
    assert (await store.votes.get("c0", ANN)).state == "expired"
    assert (await store.votes.stats())["expired"] == 1


async def test_expired_votes_are_read_withdrawn_and_counted(
    store: Store, raw_redis: Redis, voted: Voted
) -> None:
    await voted("udu")
    await raw_redis.delete(keys.completion("c0"), keys.completion("c1"))
    found = await store.votes.get("c0", ANN)
    assert (found.state, found.vote, found.score) == ("expired", UP, 1.0)
    assert found.reason is not None
    assert await store.votes.expire(100, now=3000.0) == 2
    assert await store.votes.expire(100, now=3000.0) == 0
    assert await store.votes.get("c0", ANN) == found
    stats = await store.votes.stats()
    assert (stats["pending"], stats["expired"], stats["up"], stats["down"]) == (1, 2, 2, 1)
    with pytest.raises(UnknownCompletionError, match="no completion"):
        await store.votes.put("c0", ANN, DOWN, -1.0, now=3001.0)
    with pytest.raises(UnknownCompletionError, match="no completion"):
        await store.votes.get("c0", Person("k1", "bob"))
    with pytest.raises(UnknownCompletionError, match="no completion"):
        await store.votes.withdraw("c0", Person("k1", "bob"), now=3001.0)
    await store.votes.withdraw("c0", ANN, now=3002.0)
    with pytest.raises(UnknownCompletionError, match="no vote"):
        await store.votes.get("c0", ANN)
    stats = await store.votes.stats()
    assert (stats["expired"], stats["up"], stats["down"]) == (1, 1, 1)
    base = await store.versions.get("base")
    assert (base.up, base.down) == (1, 1)


async def test_a_learned_vote_outlives_its_completion_unchanged(
    store: Store, raw_redis: Redis, claimed: ClaimVotes
) -> None:
    run = await claimed("u")
    name = "v000001-0123456789ab"
    await store.runs.commit(run, version=name, manifest={}, report={}, now=3100.0)
    before = await store.votes.get("c0", ANN)
    await raw_redis.delete(keys.completion("c0"))
    assert await store.votes.get("c0", ANN) == before
    assert (before.state, before.version) == ("learned", name)
    assert await store.votes.expire(100, now=3000.0) == 0


async def test_a_vote_without_its_completion_is_not_claimed(
    store: Store, raw_redis: Redis, voted: Voted
) -> None:
    await voted("uu")
    votes = [FrozenVote("c0", 1, 1.0), FrozenVote("c1", 1, 1.0)]
    await raw_redis.delete(keys.completion("c0"))
    run = await store.runs.claim(votes, parent="base", min_votes=1, now=3000.0)
    assert run is not None
    assert run.votes == (votes[1],)
    assert (await store.votes.get("c0", ANN)).state == "expired"


async def test_a_sweep_finds_what_expired_at_any_place_of_the_queue(
    redis_url: str, store: Store, raw_redis: Redis, completion: MakeCompletion
) -> None:
    await fill(raw_redis, 50)
    settings = FeedbackSettings(
        completion_ttl=timedelta(milliseconds=30), vote_ttl=timedelta(days=1)
    )
    brief = Store.connect(redis_url, settings)
    await vote(brief, completion("brief"), 9000.0)
    await brief.close()
    await asyncio.sleep(0.05)
    assert await raw_redis.exists(keys.completion("brief")) == 0
    assert await store.votes.expire(5, now=time.time()) == 1
    assert (await store.votes.get("brief", ANN)).state == "expired"
    assert await store.votes.count_waiting() == 50


async def test_a_sweep_puts_off_what_lives_longer_than_was_foreseen(
    store: Store, raw_redis: Redis, voted: Voted
) -> None:
    await voted("u")
    foreseen = float(await raw_redis.zscore(keys.EXPIRING, "c0"))
    assert foreseen == pytest.approx(time.time() + 30 * DAY, abs=60)
    later = time.time() + 31 * DAY
    assert await store.votes.expire(9, now=later) == 0
    put_off = float(await raw_redis.zscore(keys.EXPIRING, "c0"))
    assert put_off == pytest.approx(later + 30 * DAY, abs=60)
    assert (await store.votes.get("c0", ANN)).state == "pending"


async def test_a_vote_lives_as_long_after_each_change_as_the_settings_say(
    store: Store, raw_redis: Redis, voted: Voted
) -> None:
    await voted("u")
    assert 60 * DAY - 60 < await raw_redis.ttl(keys.feedback("c0")) <= 60 * DAY
    await raw_redis.expire(keys.feedback("c0"), 1000)
    await store.votes.put("c0", ANN, UP, 1.0, now=2500.0)
    assert await raw_redis.ttl(keys.feedback("c0")) <= 1000
    await store.votes.put("c0", ANN, Vote(thumb="up", comment="!"), 1.0, now=2500.0)
    assert await raw_redis.ttl(keys.feedback("c0")) > 1000


async def test_a_vote_whose_hash_is_gone_too_is_counted_as_expired(
    store: Store, raw_redis: Redis, voted: Voted
) -> None:
    await voted("uu")
    await raw_redis.delete(keys.completion("c0"), keys.feedback("c0"))
    assert await store.votes.expire(9, now=3000.0) == 1
    stats = await store.votes.stats()
    assert (stats["pending"], stats["expired"]) == (1, 1)
    await store.votes.withdraw("c1", ANN, now=3001.0)
    assert (await queues(raw_redis))[2] == {}


async def test_stale_votes_are_discarded_with_their_reason(store: Store, voted: Voted) -> None:
    await voted("udu")
    await store.votes.put("c1", ANN, UP, 1.0, now=2500.0)
    stale = [StaleVote("c0", 1, "too old"), StaleVote("c1", 1, "too old"), StaleVote("x", 1, "?")]
    assert await store.votes.discard(stale) == 1
    assert await store.votes.discard([]) == 0
    found = await store.votes.get("c0", ANN)
    assert (found.state, found.reason) == ("discarded", "too old")
    assert [vote.completion_id for vote in await store.votes.waiting(9)] == ["c2", "c1"]
    stats = await store.votes.stats()
    assert (stats["pending"], stats["discarded"], stats["up"]) == (2, 1, 3)
    fresh = await store.votes.put("c0", ANN, DOWN, -1.0, now=2600.0)
    assert (fresh.state, fresh.reason) == ("pending", None)


COUNTED = re.compile(r"cmdstat_(exists|pttl|z\w+|h(del|get|getall|incrby|mget|set))")


async def commands(raw_redis: Redis, work: Awaitable[Any]) -> int:
    """Return how often some work read or wrote a hash or a queue, in scripts or outside."""

    async def total() -> int:
        found = await raw_redis.info("commandstats")
        return sum(each["calls"] for name, each in found.items() if COUNTED.fullmatch(name))

    before = await total()
    await work
    return await total() - before


@pytest.mark.parametrize("order", ["oldest", "newest"])
async def test_reading_claiming_and_sweeping_are_flat_in_the_number_of_waiting_votes(
    store: Store, raw_redis: Redis, order: Any
) -> None:
    async def work() -> None:
        waiting = await store.votes.waiting(40, order=order, turns=40)
        assert 40 <= len(waiting) <= 80
        batch = choose(waiting, max_votes=10, max_user_share=0.25, order=order)
        run = await store.runs.claim(batch, parent="base", min_votes=10, now=3000.0)
        assert run is not None
        assert len(run.votes) == 10
        assert await store.votes.expire(20, now=3000.0) == 0
        await store.runs.fail(run, reason="x", max_attempts=1, now=3000.0)

    counts = []
    for waiting in (200, 20_000):
        await raw_redis.flushall()
        await fill(raw_redis, waiting)
        counts.append(await commands(raw_redis, work()))
    assert 200 < counts[0] == counts[1] < 1000
