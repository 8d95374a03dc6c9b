from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback.retention import position
from feedback.settings import FeedbackSettings
from feedback.store import Store, keys
from feedback.store.client import Client
from feedback.store.retention import Retention
from feedback.types import Person, Vote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from feedback.types import Completion

    Voted = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio

PIECE = 20
DAY = timedelta(days=1)
ANN = Person("k1", "ann")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.store.retention.PIECE", PIECE)
    monkeypatch.setattr("feedback.store.retention._SCANNED", PIECE)
    monkeypatch.setattr("feedback.store.retention._USERS", 4)


def retention(store: Store, client: Client, **changes: object) -> Retention:
    return Retention(client, store.votes, FeedbackSettings(**changes))


async def sweep(store: Store, client: Client, **changes: object) -> int:
    """Sweep, and return how many events left the log."""
    swept = await retention(store, client, **changes).sweep(now=time.time(), seconds=5.0)
    assert swept.finished
    return swept.trimmed_events


async def log(client: Client, *events: tuple[str, str, int], days_ago: float = 100) -> list[str]:
    """Write old entries into the log: event, id of the completion, revision."""
    start = round((time.time() - days_ago * 86400) * 1000)
    ids = []
    for i, (event, completion_id, revision) in enumerate(events):
        words = ("event", event, "id", completion_id, "revision", revision)
        ids.append(await client.command("XADD", keys.FEEDBACK_LOG, f"{start + i}-0", *words))
    return ids


async def entries(client: Client) -> list[str]:
    return [entry[0] for entry in await client.command("XRANGE", keys.FEEDBACK_LOG, "-", "+")]


async def test_nothing_leaves_the_log_before_an_export(store: Store, client: Client) -> None:
    await log(client, ("put", "gone", 1), ("put", "gone", 2))
    assert await sweep(store, client) == 0
    assert await sweep(store, client, trim_unexported=True) == 2
    assert await entries(client) == []


async def test_what_is_exported_and_old_leaves_the_log(store: Store, client: Client) -> None:
    old = await log(client, *[("put", f"gone{i}", 1) for i in range(5)])
    young = await log(client, ("put", "gone", 1), days_ago=59)
    await client.command("SET", keys.EXPORTED, old[3])
    assert await sweep(store, client) == 3
    assert await entries(client) == [*old[3:], *young]
    await client.command("SET", keys.EXPORTED, young[0])
    assert await sweep(store, client) == 2
    assert await entries(client) == young
    assert await sweep(store, client, vote_ttl=30 * DAY, completion_ttl=DAY) == 0, (
        "the exported one stays"
    )


@pytest.mark.parametrize("state", ["pending", "claimed"])
async def test_every_event_of_a_vote_that_waits_stays(
    store: Store, client: Client, state: str
) -> None:
    ids = await log(client, ("put", "gone", 1), ("put", "c1", 1), ("put", "c1", 2), ("put", "x", 1))
    await client.command("SET", keys.EXPORTED, ids[-1])
    await client.command("HSET", keys.feedback("c1"), "state", state, "revision", "3")
    assert await sweep(store, client) == 1
    assert await entries(client) == ids[1:]


@pytest.mark.parametrize("state", ["learned", "discarded", "expired", "withdrawn"])
async def test_the_event_that_made_a_vote_what_it_is_stays_while_it_can_be_read(
    store: Store, client: Client, state: str
) -> None:
    ids = await log(client, ("put", "c1", 1), ("put", "c1", 2), ("put", "gone", 1), ("put", "x", 1))
    await client.command("SET", keys.EXPORTED, ids[-1])
    await client.command("HSET", keys.feedback("c1"), "state", state, "revision", "2")
    assert await sweep(store, client) == 1, "the first revision is history"
    assert await entries(client) == ids[1:]
    await client.command("DEL", keys.feedback("c1"))
    assert await sweep(store, client) == 2


async def test_a_mark_that_is_set_back_holds_at_once(store: Store, client: Client) -> None:
    """The script reads the mark itself: one that was read before cannot trim too much."""
    ids = await log(client, *[("put", f"gone{i}", 1) for i in range(4)])
    await client.command("SET", keys.EXPORTED, ids[1])
    arguments = [ids[3], PIECE, 0]
    assert await client.script("log_trim", [keys.FEEDBACK_LOG, keys.EXPORTED], arguments) == 1
    await client.command("DEL", keys.EXPORTED)
    assert await client.script("log_trim", [keys.FEEDBACK_LOG, keys.EXPORTED], arguments) == 0
    assert await entries(client) == ids[1:]


async def test_a_long_log_is_trimmed_piece_by_piece(store: Store, client: Client) -> None:
    count = 2 * PIECE + 7
    ids = await log(client, *[("put", f"gone{i}", 1) for i in range(count)])
    await client.command("SET", keys.EXPORTED, ids[-1])
    hasty = await retention(store, client).sweep(now=time.time(), seconds=0.0)
    assert (hasty.trimmed_events, hasty.finished) == (PIECE, False)
    assert await sweep(store, client) == count - PIECE - 1
    assert await entries(client) == ids[-1:]


def _needed(votes: list[tuple[str, int]], _: int, completion: int, revision: int) -> bool:
    state, current = votes[completion]
    return state in {"pending", "claimed"} or (state != "gone" and revision == current)


_EVENT = st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(0, 3))
_VOTE = st.tuples(
    st.sampled_from(["pending", "claimed", "learned", "withdrawn", "gone"]), st.integers(1, 3)
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    events=st.lists(_EVENT, max_size=12),
    votes=st.lists(_VOTE, min_size=5, max_size=5),
    exported=st.none() | st.integers(0, 40),
    ttl_ms=st.integers(1, 40),
    trim_unexported=st.booleans(),
)
def test_what_leaves_the_log_is_what_the_rule_says(
    redis_url: str,
    events: list[tuple[int, int, int]],
    votes: list[tuple[str, int]],
    exported: int | None,
    ttl_ms: int,
    trim_unexported: bool,
) -> None:
    """The rule, written as a walk over plain values, against the script on a real Redis."""
    at, timeline = 0, []
    for completion, revision, gap in events:
        at += 1 + gap
        timeline.append((at, completion, revision))
    now = 45
    below = now - ttl_ms
    if not trim_unexported:
        below = min(below, exported if exported is not None else 0)
    expected = [
        moment
        for i, (moment, _, _) in enumerate(timeline)
        if moment >= below or any(_needed(votes, *each) for each in timeline[: i + 1])
    ]

    async def found() -> list[int]:
        client = Client(redis_url)
        await client.command("FLUSHALL")
        base = round(time.time() * 1000) - now  # the clock that the sweep reads starts at `now`
        for moment, completion, revision in timeline:
            words = ("event", "put", "id", f"c{completion}", "revision", revision)
            await client.command("XADD", keys.FEEDBACK_LOG, f"{base + moment}-0", *words)
        for i, (state, revision) in enumerate(votes):
            if state != "gone":
                vote = ("state", state, "revision", revision)
                await client.command("HSET", keys.feedback(f"c{i}"), *vote)
        if exported is not None:
            await client.command("SET", keys.EXPORTED, f"{base + exported}-0")
        arguments = [f"{base + now - ttl_ms}-0", PIECE, int(trim_unexported)]
        await client.script("log_trim", [keys.FEEDBACK_LOG, keys.EXPORTED], arguments)
        left = [position(each)[0] - base for each in await entries(client)]
        await client.close()
        return left

    assert asyncio.run(found()) == expected


async def test_votes_whose_replies_are_gone_expire_and_so_leave_the_log_free(
    store: Store, client: Client, voted: Voted
) -> None:
    ids = await voted("u" * (PIECE + 2))
    for each in ids[1:]:
        await client.command("DEL", keys.completion(each))
    later = time.time() + 31 * 86400
    swept = await retention(store, client).sweep(now=later, seconds=5.0)
    assert swept.expired_votes == PIECE + 1
    assert [vote.completion_id for vote in await store.votes.waiting(99)] == ids[:1]
    assert (await store.votes.get(ids[1], ANN)).state == "expired"
    again = await retention(store, client).sweep(now=later, seconds=5.0)
    assert again.expired_votes == 0


async def test_the_audit_keeps_its_newest_entries(
    store: Store, client: Client, raw_redis: Redis
) -> None:
    add = "for i = 1, 1300 do redis.call('XADD', KEYS[1], i .. '-0', 'action', 'x') end"
    await raw_redis.execute_command("EVAL", add, 1, keys.EVENTS)
    swept = await retention(store, client, audit_events=1000).sweep(now=5.0, seconds=5.0)
    left = await raw_redis.xrange(keys.EVENTS)
    assert 1000 <= len(left) == 1300 - swept.trimmed_audit < 1300
    assert left[-1][0] == "1300-0"


async def test_a_users_list_forgets_what_is_gone(
    store: Store, client: Client, completion: Callable[..., Completion]
) -> None:
    for i in range(4):
        await store.completions.record(completion(f"c{i}", created_at=1000.0 + i))
    await store.votes.put("c1", ANN, Vote(thumb="up"), 1.0, now=2000.0)
    await client.command("DEL", *(keys.completion(f"c{i}") for i in (0, 1, 2)))
    swept = await retention(store, client).sweep(now=time.time(), seconds=5.0)
    assert swept.forgotten_ids == 2
    assert await client.command("ZRANGE", keys.user("k1", "ann"), 0, -1) == ["c1", "c3"]


async def test_a_long_list_with_little_to_forget_is_walked_to_its_end(
    store: Store, client: Client
) -> None:
    count = 2 * PIECE + 5
    for i in range(count):
        await client.command("ZADD", keys.user("k1", "ann"), i, f"c{i}")
        if i % 10:
            await client.command("HSET", keys.completion(f"c{i}"), "owner", "k1")
    swept = await retention(store, client).sweep(now=time.time(), seconds=5.0)
    assert swept.forgotten_ids == len(range(0, count, 10))
    assert await client.command("ZCARD", keys.user("k1", "ann")) == count - swept.forgotten_ids


async def test_a_walk_that_is_cut_off_goes_on(store: Store, client: Client) -> None:
    for i in range(100):
        await client.command("ZADD", keys.user("k1", f"u{i}"), 1, "gone")
    forgotten, sweeps = 0, 0
    while forgotten < 100:
        forgotten += (
            await retention(store, client).sweep(now=time.time(), seconds=0.0)
        ).forgotten_ids
        sweeps += 1
        assert sweeps < 20
    assert (forgotten, sweeps > 1) == (100, True)


async def test_a_sweep_is_remembered_and_health_tells_it(store: Store, voted: Voted) -> None:
    empty = await store.retention.health()
    assert (empty.last_look, empty.waiting_votes, empty.log_events, empty.swept) == (
        (None, 0, 0, None)
    )
    assert await store.retention.last() is None
    await voted("ud")
    await store.learning.looked(77.5)
    swept = await store.retention.sweep(now=1234.5, seconds=5.0)
    assert (swept.at, swept.log_events, swept.unexported_events) == (1234.5, 2, 2)
    assert await store.retention.last() == swept
    await voted("u", start=2)
    health = await store.retention.health()
    assert (health.last_look, health.waiting_votes, health.log_events) == (77.5, 3, 3)
    assert health.swept == swept


async def test_unexported_events_are_counted_up_to_a_bound(
    store: Store, client: Client, raw_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unexported() -> int:
        return (await store.retention.sweep(now=1.0, seconds=1.0)).unexported_events

    count = 2 * PIECE + 5
    ids = await log(client, *[("put", f"c{i}", 1) for i in range(count)], days_ago=1)
    assert await unexported() == count
    await raw_redis.set(keys.EXPORTED, ids[-8])
    assert await unexported() == 7
    await raw_redis.delete(keys.EXPORTED)
    monkeypatch.setattr("feedback.store.retention.COUNTED_EVENTS", PIECE + 1)
    assert await unexported() == 2 * PIECE


async def test_two_sweeps_at_once_do_what_one_does(store: Store, client: Client) -> None:
    ids = await log(client, *[("put", f"gone{i}", 1) for i in range(3 * PIECE)])
    await client.command("SET", keys.EXPORTED, ids[-1])
    both = await asyncio.gather(*(store.retention.sweep(now=9.0, seconds=5.0) for _ in range(2)))
    assert sum(swept.trimmed_events for swept in both) == 3 * PIECE - 1
    assert await entries(client) == ids[-1:]
    last = await store.retention.last()
    assert last in {replace(swept, seconds=last.seconds) for swept in both if last}
