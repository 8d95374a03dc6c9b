from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from feedback.errors import UnknownCompletionError
from feedback.store import keys
from feedback.types import Person, Vote, WaitingVote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from feedback.store import Store
    from feedback.types import Completion

    MakeCompletion = Callable[..., Completion]
    Voted = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio
ANN, BOB = Person("k1", "ann"), Person("k1", "bob")
UP, DOWN = Vote(thumb="up"), Vote(thumb="down")


@pytest.fixture
async def recorded(store: Store, completion: MakeCompletion) -> None:
    await store.completions.record(completion("c1"))


async def counters(store: Store) -> tuple[int, int]:
    base = await store.versions.get("base")
    return base.up, base.down


async def test_a_vote_comes_back_as_it_was(store: Store, recorded: None) -> None:
    vote = Vote(rating=4.5, comment='Quoted "ö" \ud800', tags=("b", "a"), correction="No.")
    put = await store.votes.put("c1", ANN, vote, 0.8, now=2000.25)
    assert (put.vote, put.score, put.revision, put.state) == (vote, 0.8, 1, "pending")
    assert put.updated_at == 2000.25
    assert await store.votes.get("c1", ANN) == put


async def test_the_same_vote_again_changes_nothing(
    store: Store, raw_redis: Redis, recorded: None
) -> None:
    first = await store.votes.put("c1", ANN, UP, 1.0, now=2000.0)
    assert await store.votes.put("c1", ANN, UP, 1.0, now=2001.0) == first
    assert await counters(store) == (1, 0)
    assert await raw_redis.xlen(keys.FEEDBACK_LOG) == 1


@pytest.mark.parametrize("name", ["log", "ready", "totals"])
async def test_an_id_that_names_another_record_is_unknown(
    store: Store, recorded: None, name: str
) -> None:
    await store.votes.put("c1", ANN, UP, 1.0, now=2000.0)
    calls = [
        store.votes.get(name, ANN),
        store.votes.put(name, ANN, UP, 1.0, now=2001.0),
        store.votes.withdraw(name, ANN, now=2001.0),
        store.votes.compare("c1", name, ANN, now=2001.0),
        store.votes.get_comparison(name, ANN),
        store.votes.withdraw_comparison(name, ANN, now=2001.0),
        store.completions.delete(name, ANN),
    ]
    for call in calls:
        with pytest.raises(UnknownCompletionError):
            await call


async def test_another_vote_replaces_the_old_one(store: Store, recorded: None) -> None:
    await store.votes.put("c1", ANN, UP, 1.0, now=2000.0)
    second = await store.votes.put("c1", ANN, DOWN, -1.0, now=2001.0)
    assert (second.revision, second.score) == (2, -1.0)
    assert await counters(store) == (0, 1)
    assert await store.votes.waiting(9) == [WaitingVote("c1", 2, -1.0, ANN, "base", 2001.0)]


async def test_a_comment_alone_waits_for_nothing(store: Store, recorded: None) -> None:
    put = await store.votes.put("c1", ANN, Vote(comment="hm"), None, now=2000.0)
    assert put.score is None
    assert await store.votes.count_waiting() == 0
    assert await counters(store) == (0, 0)
    stats = await store.votes.stats()
    assert (stats["unscored"], stats["pending"]) == (1, 0)


async def test_taking_the_thumb_away_leaves_the_queue(store: Store, recorded: None) -> None:
    await store.votes.put("c1", ANN, UP, 1.0, now=2000.0)
    await store.votes.put("c1", ANN, Vote(comment="hm"), None, now=2001.0)
    assert await store.votes.count_waiting() == 0
    assert await counters(store) == (0, 0)


async def test_a_rating_in_the_middle_is_learned_from_but_takes_no_side(
    store: Store, recorded: None
) -> None:
    await store.votes.put("c1", ANN, Vote(rating=2.5), 0.0, now=2000.0)
    assert await store.votes.count_waiting() == 1
    assert await counters(store) == (0, 0)


async def test_a_comment_added_later_keeps_the_place_in_the_queue(
    store: Store, voted: Voted
) -> None:
    await voted("uu")
    put = await store.votes.put("c0", ANN, Vote(thumb="up", comment="!"), 1.0, now=2900.0)
    assert put.revision == 2
    waiting = await store.votes.waiting(9)
    assert [(vote.completion_id, vote.voted_at) for vote in waiting] == [
        ("c0", 2000.0),
        ("c1", 2001.0),
    ]
    assert await counters(store) == (2, 0)


async def test_waiting_votes_come_oldest_first_and_bounded(store: Store, voted: Voted) -> None:
    await voted("udu")
    await store.votes.put("c0", ANN, DOWN, -1.0, now=2900.0)
    assert [vote.completion_id for vote in await store.votes.waiting(2)] == ["c1", "c2"]
    assert await store.votes.count_waiting() == 3


async def test_withdrawing_leaves_nothing_but_the_revision(store: Store, recorded: None) -> None:
    await store.votes.put("c1", ANN, UP, 1.0, now=2000.0)
    await store.votes.withdraw("c1", ANN, now=2001.0)
    with pytest.raises(UnknownCompletionError, match="no vote"):
        await store.votes.get("c1", ANN)
    assert await store.votes.count_waiting() == 0
    assert await counters(store) == (0, 0)
    assert set((await store.votes.stats()).values()) == {0}
    again = await store.votes.put("c1", ANN, UP, 1.0, now=2002.0)
    assert (again.revision, again.state) == (3, "pending")
    assert await counters(store) == (1, 0)


async def test_withdrawing_nothing_says_so(store: Store, recorded: None) -> None:
    with pytest.raises(UnknownCompletionError, match="no vote"):
        await store.votes.withdraw("c1", ANN, now=2000.0)
    await store.votes.put("c1", ANN, UP, 1.0, now=2000.0)
    await store.votes.withdraw("c1", ANN, now=2001.0)
    with pytest.raises(UnknownCompletionError, match="no vote"):
        await store.votes.withdraw("c1", ANN, now=2002.0)


async def test_nobody_votes_on_anothers_completion(store: Store, recorded: None) -> None:
    with pytest.raises(UnknownCompletionError, match="no completion"):
        await store.votes.put("c1", BOB, UP, 1.0, now=2000.0)
    await store.votes.put("c1", ANN, UP, 1.0, now=2000.0)
    with pytest.raises(UnknownCompletionError, match="no completion"):
        await store.votes.get("c1", BOB)
    with pytest.raises(UnknownCompletionError, match="no completion"):
        await store.votes.withdraw("c1", BOB, now=2000.0)
    with pytest.raises(UnknownCompletionError, match="no completion"):
        await store.votes.put("c2", ANN, UP, 1.0, now=2000.0)


async def test_of_a_hundred_racing_votes_one_stands_the_last(store: Store, recorded: None) -> None:
    votes = [Vote(thumb="up" if i % 3 else "down", comment=str(i)) for i in range(100)]
    put = await asyncio.gather(
        *(
            store.votes.put("c1", ANN, vote, 1.0 if vote.thumb == "up" else -1.0, now=2000.0 + i)
            for i, vote in enumerate(votes)
        )
    )
    assert sorted(each.revision for each in put) == list(range(1, 101))
    last = max(put, key=lambda each: each.revision)
    assert await store.votes.get("c1", ANN) == last
    assert await counters(store) == ((1, 0) if last.vote.thumb == "up" else (0, 1))
    assert await store.votes.count_waiting() == 1
    assert (await store.votes.stats())["pending"] == 1


async def test_votes_of_expired_completions_are_forgotten_and_counted(
    store: Store, raw_redis: Redis, voted: Voted
) -> None:
    await voted("ud")
    await raw_redis.delete(keys.completion("c0"), keys.feedback("c0"))
    assert [vote.completion_id for vote in await store.votes.waiting(9)] == ["c1"]
    assert await store.votes.count_waiting() == 1
    stats = await store.votes.stats()
    assert (stats["pending"], stats["expired"]) == (1, 1)


async def test_the_log_has_every_event_and_no_words_of_the_user(
    store: Store, raw_redis: Redis, recorded: None
) -> None:
    await store.votes.put("c1", ANN, Vote(thumb="up", comment="secret"), 1.0, now=2000.0)
    await store.votes.withdraw("c1", ANN, now=2001.0)
    await store.completions.delete("c1", ANN)
    entries = [event for _, event in await raw_redis.xrange(keys.FEEDBACK_LOG)]
    assert [entry["event"] for entry in entries] == ["put", "withdrawn", "deleted"]
    assert not any(word in str(entries) for word in ("secret", "ann", "k1"))
