"""What the judge counts stays what the votes say, and no person weighs more than the cap."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

import pytest

from feedback.judging import Replies
from feedback.rewards import reward
from feedback.store import Store, keys
from feedback.types import Completion, Person, Vote, counted_as
from models.types import Message, Sampling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

pytestmark = pytest.mark.anyio
LIVE, CANARY, OLD = "v000002-0123456789ab", "v000003-0123456789ab", "v000001-0123456789ab"


async def record(
    store: Store, completion_id: str, user: str = "ann", version: str = LIVE, **changes: Any
) -> Person:
    person = Person("k1", user)
    fields: dict[str, Any] = {
        "id": completion_id,
        "person": person,
        "conversation": "",
        "version": version,
        "messages": (Message("user", "Hi"),),
        "text": "Hello",
        "prompt_ids": (1,),
        "response_ids": (2,),
        "behaviour_logprobs": (-0.1,),
        "sampling": Sampling(),
        "finish_reason": "stop",
        "created_at": 1000.0,
    }
    await store.completions.record(Completion(**(fields | changes)))
    return person


async def vote(store: Store, completion_id: str, person: Person, up: bool) -> None:
    said = Vote(thumb="up" if up else "down")
    await store.votes.put(completion_id, person, said, reward(said), now=2000.0)


async def voted(store: Store, completion_id: str, *, up: bool = True, **changes: Any) -> Person:
    person = await record(store, completion_id, **changes)
    await vote(store, completion_id, person, up)
    return person


async def roll_out(raw_redis: Redis, **fields: str) -> None:
    await raw_redis.hset(keys.ROLLOUT, mapping=fields)


async def counts(store: Store, version: str = LIVE) -> list[tuple[int, int, int]]:
    (tally,) = await store.tallies.read([version])
    return sorted(tally.votes.values())


@pytest.fixture
async def live(store: Store, raw_redis: Redis) -> Store:
    await roll_out(raw_redis, live=LIVE)
    return store


async def test_votes_are_counted_by_user(live: Store) -> None:
    for number in range(3):
        await voted(live, f"a{number}", up=number > 0)
    await voted(live, "b", user="bob", up=False)
    assert await counts(live) == [(0, 1, 0), (2, 1, 0)]


async def test_tallies_hold_no_names(live: Store, raw_redis: Redis) -> None:
    await voted(live, "a", user="ann@example.org")
    found = await raw_redis.hgetall(keys.tally_votes(LIVE))
    assert [len(person) for person in found] == [16]
    assert "ann" not in repr(found)


async def test_without_a_user_a_conversation_is_a_person_and_else_a_reply_is(live: Store) -> None:
    for number in range(2):
        await voted(live, f"c{number}", user="", conversation="one")
        await voted(live, f"r{number}", user="")
    assert await counts(live) == [(1, 0, 0), (1, 0, 0), (2, 0, 0)]


async def test_who_asks_for_a_version_by_name_is_not_counted(live: Store) -> None:
    ann = await voted(live, "a", pinned=True)
    await voted(live, "b", user="bob")
    await vote(live, "a", ann, up=False)
    await live.votes.withdraw("a", ann, now=2001.0)
    assert await counts(live) == [(1, 0, 0)]
    found = await live.completions.get_many(["a", "b"])
    assert [each.pinned for each in found if each] == [True, False]


async def test_a_changed_vote_moves(live: Store) -> None:
    ann = await voted(live, "a", up=True)
    await vote(live, "a", ann, up=False)
    assert await counts(live) == [(0, 1, 0)]
    await vote(live, "a", ann, up=False)
    assert await counts(live) == [(0, 1, 0)]


async def test_a_withdrawn_vote_leaves_and_is_counted_as_such(live: Store) -> None:
    ann = await voted(live, "a")
    await live.votes.withdraw("a", ann, now=2001.0)
    assert await counts(live) == [(0, 0, 1)]
    await vote(live, "a", ann, up=True)
    assert await counts(live) == [(1, 0, 1)]


async def test_a_neutral_rating_and_a_comment_are_no_votes(live: Store) -> None:
    ann = await record(live, "a")
    neutral = Vote(rating=2.5)
    await live.votes.put("a", ann, neutral, reward(neutral), now=2000.0)
    assert await counts(live) == []
    await live.votes.put("a", ann, Vote(comment="hm"), None, now=2001.0)
    await vote(live, "a", ann, up=True)
    await live.votes.put("a", ann, Vote(comment="hm"), None, now=2003.0)
    assert await counts(live) == []


async def test_a_deleted_completion_takes_its_vote_along(live: Store, raw_redis: Redis) -> None:
    ann = await voted(live, "a")
    await live.completions.delete("a", ann)
    assert await raw_redis.hgetall(keys.tally_votes(LIVE)) == {}


async def test_nothing_of_a_deleted_user_is_left(live: Store, raw_redis: Redis) -> None:
    ann = await voted(live, "a")
    await voted(live, "b")
    await live.votes.withdraw("b", ann, now=2001.0)
    await voted(live, "c", user="bob", up=False)
    # A vote that has expired is known to nobody but the tally.
    await raw_redis.delete(keys.feedback("a"), keys.completion("a"))
    await live.users.delete(ann, who="ops")
    assert await counts(live) == [(0, 1, 0)]


async def test_only_versions_that_are_compared_are_counted(live: Store) -> None:
    await voted(live, "a", version=OLD)
    await live.tallies.add({OLD: Replies(requests=3), LIVE: Replies(requests=2)})
    assert await counts(live, OLD) == []
    old, now = await live.tallies.read([OLD, LIVE])
    assert (old.replies.requests, now.replies.requests) == (0, 2)


async def test_a_retired_version_is_counted_until_it_is_dropped(
    live: Store, raw_redis: Redis
) -> None:
    ann = await voted(live, "a")
    await roll_out(raw_redis, live=CANARY, confirmed=OLD)
    await voted(live, "b")
    assert await counts(live) == [(2, 0, 0)]
    assert await live.tallies.keep([OLD]) == 1
    assert await counts(live) == []
    await voted(live, "c")
    await vote(live, "a", ann, up=False)
    assert await counts(live) == []


async def test_a_vote_of_a_dropped_tally_is_not_taken_out_of_the_next_one(
    live: Store, raw_redis: Redis
) -> None:
    ann = await voted(live, "a")
    await roll_out(raw_redis, live=CANARY, confirmed=OLD)
    assert await live.tallies.keep([]) == 1
    await roll_out(raw_redis, live=LIVE)
    await voted(live, "b")
    await live.votes.withdraw("a", ann, now=2001.0)
    assert await counts(live) == [(1, 0, 0)]
    await live.votes.withdraw("b", ann, now=2001.0)
    assert await counts(live) == [(0, 0, 1)]


async def test_what_is_served_is_never_dropped(live: Store, raw_redis: Redis) -> None:
    await roll_out(raw_redis, canary=CANARY, canary_since="1.0", confirmed=OLD)
    for number, version in enumerate((LIVE, CANARY, OLD)):
        await voted(live, f"c{number}", version=version)
    assert await live.tallies.keep([]) == 0
    assert [len(await counts(live, each)) for each in (LIVE, CANARY, OLD)] == [1, 1, 1]


async def test_the_base_is_confirmed_where_nothing_is(store: Store, raw_redis: Redis) -> None:
    await voted(store, "a", version="base")
    assert await store.tallies.keep([]) == 0
    await roll_out(raw_redis, live=LIVE)
    assert await store.tallies.keep([]) == 0
    assert await counts(store, "base") == [(1, 0, 0)]
    await roll_out(raw_redis, confirmed=LIVE)
    assert await store.tallies.keep([]) == 1


async def test_a_trial_has_the_replies_made_since_it_began(live: Store, raw_redis: Redis) -> None:
    ann = await voted(live, "early")
    await roll_out(raw_redis, canary=CANARY, canary_since="1500.5")
    await record(live, "before", user="bob")
    await vote(live, "before", Person("k1", "bob"), up=False)
    await voted(live, "beside", created_at=1501.0, up=False)
    await voted(live, "on it", user="bob", version=CANARY, created_at=1501.0)
    canary, beside = await live.tallies.trial()
    assert list(canary.votes.values()) == [(1, 0, 0)]
    assert list(beside.votes.values()) == [(0, 1, 0)]
    assert await counts(live) == [(0, 1, 0), (1, 1, 0)]
    await live.votes.withdraw("beside", ann, now=2001.0)
    await live.votes.withdraw("early", ann, now=2001.0)
    assert list((await live.tallies.trial())[1].votes.values()) == [(0, 0, 1)]


async def test_another_trial_begins_with_nothing(live: Store, raw_redis: Redis) -> None:
    await roll_out(raw_redis, canary=CANARY, canary_since="1500.5")
    bob = await voted(live, "a", user="bob", version=CANARY, created_at=1600.0)
    await live.tallies.add({CANARY: Replies(requests=2), LIVE: Replies(errors=1)})
    canary, beside = await live.tallies.trial()
    assert (canary.replies.requests, beside.replies.errors) == (2, 1)
    await roll_out(raw_redis, canary_since="1700.5")
    await voted(live, "b", user="bob", version=CANARY, created_at=1800.0)
    await live.votes.withdraw("a", bob, now=2001.0)
    canary, beside = await live.tallies.trial()
    assert list(canary.votes.values()) == [(1, 0, 0)]
    assert (canary.replies.requests, beside.replies.errors) == (0, 0)
    await raw_redis.hdel(keys.ROLLOUT, "canary", "canary_since")
    await live.tallies.keep([])
    assert await raw_redis.keys("tl:tally:*:canary") == []
    assert await raw_redis.exists(keys.TRIAL) == 0


async def test_a_canary_is_compared_afresh_with_another_live_version(
    live: Store, raw_redis: Redis
) -> None:
    await roll_out(raw_redis, live_since="1400.0", canary=CANARY, canary_since="1500.5")
    ann = await voted(live, "beside", created_at=1600.0)
    await voted(live, "on it", user="bob", version=CANARY, created_at=1600.0)
    await roll_out(raw_redis, live=OLD, live_since="1700.0")
    canary, beside = await live.tallies.trial()
    assert (dict(canary.votes), dict(beside.votes)) == ({}, {})
    await voted(live, "earlier", user="cid", version=CANARY, created_at=1650.0)
    await voted(live, "later", user="cid", version=CANARY, created_at=1750.0, up=False)
    await voted(live, "other", user="dan", version=OLD, created_at=1750.0)
    await live.votes.withdraw("beside", ann, now=2001.0)
    canary, beside = await live.tallies.trial()
    assert list(canary.votes.values()) == [(0, 1, 0)]
    assert list(beside.votes.values()) == [(1, 0, 0)]


async def test_many_tallies_are_read_and_a_user_leaves_them_all(
    live: Store, raw_redis: Redis
) -> None:
    """The stack of a script holds some 8,000 values: more tallies than that came there once."""
    names = [f"v{number:06d}-0123456789ab" for number in range(9000)]
    await raw_redis.sadd(keys.TALLIES, *names)
    ann = await voted(live, "a", version=names[5000])
    found = await live.tallies.read(names[4998:5003])
    assert [tally.cast for tally in found] == [0, 0, 1, 0, 0]
    await live.users.delete(ann, who="ops")
    assert await counts(live, names[5000]) == []


async def test_replies_add_up(live: Store) -> None:
    buckets = (0, 2, *(0,) * 7, 1)
    replies = Replies(3, 1, 50, 1300, 1, buckets)
    await live.tallies.add({LIVE: replies})
    await live.tallies.add({LIVE: replies})
    (tally,) = await live.tallies.read([LIVE])
    assert tally.replies == replies + replies
    assert tally.replies.first_token == (0, 4, *(0,) * 7, 2)


async def test_a_tally_is_bounded(live: Store, raw_redis: Redis) -> None:
    full = [word for number in range(10_000) for word in (f"p{number}", "1 0 0")]
    await raw_redis.execute_command("HSET", keys.tally_votes(LIVE), *full)
    ann = await voted(live, "a")
    await live.votes.withdraw("a", ann, now=2001.0)
    found = await raw_redis.hgetall(keys.tally_votes(LIVE))
    assert (len(found), set(found.values())) == (10_000, {"1 0 0"})
    weight = await raw_redis.execute_command(
        "MEMORY", "USAGE", keys.tally_votes(LIVE), "SAMPLES", 0
    )
    assert weight < 2_000_000


async def test_a_vote_that_is_in_no_tally_is_taken_out_of_none(
    live: Store, raw_redis: Redis
) -> None:
    ann = await voted(live, "a")
    await voted(live, "b")
    await raw_redis.hdel(keys.feedback("a"), "tallied")
    await live.votes.withdraw("a", ann, now=2001.0)
    assert await counts(live) == [(2, 0, 0)]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_to_votes_the_tally_is_what_they_say(live: Store, seed: int) -> None:
    draw = random.Random(seed)
    owners = {f"c{number}": draw.choice(("ann", "bob")) for number in range(12)}
    for completion_id, user in owners.items():
        await record(live, completion_id, user)
    said: dict[str, bool] = {}
    for _ in range(150):
        completion_id = draw.choice(sorted(owners))
        person = Person("k1", owners[completion_id])
        what = draw.random()
        if what < 0.7:
            said[completion_id] = draw.random() < 0.5
            await vote(live, completion_id, person, said[completion_id])
        elif what < 0.95 and completion_id in said:
            await live.votes.withdraw(completion_id, person, now=2000.0)
            del said[completion_id]
        elif len(owners) > 4:
            await live.completions.delete(completion_id, person)
            said.pop(completion_id, None)
            del owners[completion_id]
    (tally,) = await live.tallies.read([LIVE])
    expected = [
        [said[each] for each, owner in owners.items() if owner == user and each in said]
        for user in ("ann", "bob")
    ]
    assert _without_nothing((up, down) for up, down, _ in tally.votes.values()) == _without_nothing(
        (sum(votes), len(votes) - sum(votes)) for votes in expected
    )


def _without_nothing(counted: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted(each for each in counted if any(each))


@pytest.mark.parametrize(
    ("user", "conversation"), [("ann", "c1"), ("ann smith", ""), ("", "c 1"), ("", "")]
)
async def test_votes_count_as_requests_do(
    live: Store, raw_redis: Redis, user: str, conversation: str
) -> None:
    person = await voted(live, "x", user=user, conversation=conversation)
    counted = counted_as(person, conversation, "x")
    found = await raw_redis.hgetall(keys.tally_votes(LIVE))
    assert [*found] == [hashlib.sha1(counted.encode()).hexdigest()[:16]]
