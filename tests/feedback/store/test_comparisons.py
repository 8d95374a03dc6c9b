"""Comparisons: one choice, two votes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from feedback.errors import DifferentPromptsError, InvalidVoteError, UnknownCompletionError
from feedback.rewards import RewardScale
from feedback.store import keys
from feedback.types import Comparison, Person, Vote
from models.types import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from feedback.store import Store
    from feedback.types import Completion

    MakeCompletion = Callable[..., Completion]

pytestmark = pytest.mark.anyio
ANN, BOB = Person("k1", "ann"), Person("k1", "bob")
UP = Vote(thumb="up")


@pytest.fixture
async def three(store: Store, completion: MakeCompletion) -> None:
    for each in ("a", "b", "c"):
        await store.completions.record(completion(each))


async def sides(store: Store, *ids: str) -> list[Comparison | None]:
    return [(await store.votes.get(each, ANN)).vote.comparison for each in ids]


async def test_both_sides_wait_with_their_rewards(
    store: Store, raw_redis: Redis, three: None
) -> None:
    scale = RewardScale(chosen=0.75, rejected=-0.25)
    pair = await store.votes.compare("a", "b", ANN, "hm \ud800", scale, now=2000.0)
    assert pair.chosen.vote == Vote(comment="hm \ud800", comparison=Comparison("chosen", "b"))
    assert pair.rejected is not None
    assert pair.rejected.vote == Vote(comment="hm \ud800", comparison=Comparison("rejected", "a"))
    assert (pair.whole, pair.rejected_id) == (True, "b")
    assert await store.votes.get_comparison("a", ANN) == pair
    waiting = await store.votes.waiting(9)
    assert [(vote.completion_id, vote.score) for vote in waiting] == [("a", 0.75), ("b", -0.25)]
    assert await raw_redis.xlen(keys.FEEDBACK_LOG) == 2


async def test_again_it_only_restores_what_was_replaced(store: Store, three: None) -> None:
    first = await store.votes.compare("a", "b", ANN, now=2000.0)
    assert await store.votes.compare("a", "b", ANN, now=2001.0) == first
    await store.votes.put("b", ANN, UP, 1.0, now=2002.0)
    again = await store.votes.compare("a", "b", ANN, now=2003.0)
    assert again.chosen == first.chosen
    assert again.rejected is not None
    assert (again.rejected.revision, again.rejected.score) == (3, -1.0)


async def test_a_thumb_of_the_same_worth_keeps_the_place_in_the_queue(
    store: Store, three: None
) -> None:
    await store.votes.compare("a", "b", ANN, now=2000.0)
    put = await store.votes.put("a", ANN, UP, 1.0, now=2005.0)
    assert put.revision == 2
    assert [(v.revision, v.voted_at) for v in await store.votes.waiting(1)] == [(1, 2000.0)]
    with pytest.raises(UnknownCompletionError, match="no comparison"):
        await store.votes.get_comparison("a", ANN)


async def test_a_later_comparison_replaces_only_the_sides_that_it_names(
    store: Store, three: None
) -> None:
    await store.votes.compare("a", "b", ANN, now=2000.0)
    await store.votes.compare("a", "c", ANN, now=2001.0)
    assert await sides(store, "a", "b", "c") == [
        Comparison("chosen", "c"),
        Comparison("rejected", "a"),
        Comparison("rejected", "a"),
    ]
    await store.votes.withdraw_comparison("a", ANN, now=2002.0)
    assert [v.completion_id for v in await store.votes.waiting(9)] == ["b"]


async def test_turned_round_it_replaces_both_sides(store: Store, three: None) -> None:
    await store.votes.compare("a", "b", ANN, now=2000.0)
    await store.votes.compare("b", "a", ANN, now=2001.0)
    assert await sides(store, "a", "b") == [Comparison("rejected", "b"), Comparison("chosen", "a")]
    stats = await store.votes.stats()
    assert (stats["up"], stats["down"], stats["pending"]) == (1, 1, 2)


async def test_withdrawing_leaves_a_side_alone_that_is_in_another_comparison(
    store: Store, three: None
) -> None:
    await store.votes.compare("a", "b", ANN, now=2000.0)
    await store.votes.compare("c", "b", ANN, now=2001.0)
    assert not (await store.votes.get_comparison("a", ANN)).whole
    await store.votes.withdraw_comparison("a", ANN, now=2002.0)
    assert (await store.votes.get_comparison("c", ANN)).whole


@pytest.mark.parametrize("comment", ['"comparison": {"other": "c", "side": "chosen"}', "\udc00"])
async def test_no_comment_is_taken_for_a_comparison(
    store: Store, three: None, comment: str
) -> None:
    await store.votes.put("a", ANN, Vote(thumb="up", comment=comment), 1.0, now=2000.0)
    with pytest.raises(UnknownCompletionError, match="no comparison"):
        await store.votes.withdraw_comparison("a", ANN, now=2001.0)
    await store.votes.compare("a", "b", ANN, comment, now=2002.0)
    await store.votes.withdraw_comparison("a", ANN, now=2003.0)
    assert await store.votes.count_waiting() == 0


@pytest.mark.parametrize("other", ['x"}', 'x", "side": "rejected"}', "x\\", "{}", "ü"])
async def test_whatever_the_id_of_the_other_side_the_comparison_is_found(
    store: Store, three: None, other: str
) -> None:
    """An import may bring any text: only the id of the vote itself is checked."""
    vote = Vote(comparison=Comparison("chosen", other))
    await store.votes.put("a", ANN, vote, 1.0, now=2000.0)
    await store.votes.withdraw_comparison("a", ANN, now=2001.0)
    assert await store.votes.count_waiting() == 0


async def test_a_side_whose_reply_was_deleted_is_gone(store: Store, three: None) -> None:
    await store.votes.compare("a", "b", ANN, now=2000.0)
    await store.completions.delete("b", ANN)
    pair = await store.votes.get_comparison("a", ANN)
    assert (pair.rejected, pair.whole, pair.rejected_id) == (None, False, "b")
    await store.votes.withdraw_comparison("a", ANN, now=2001.0)
    assert set((await store.votes.stats()).values()) == {0}


async def test_it_outlives_its_replies(store: Store, raw_redis: Redis, three: None) -> None:
    await store.votes.compare("a", "b", ANN, now=2000.0)
    await raw_redis.delete(keys.completion("a"), keys.completion("b"))
    pair = await store.votes.get_comparison("a", ANN)
    assert pair.rejected is not None
    assert (pair.whole, pair.chosen.state, pair.rejected.state) == (True, "expired", "expired")
    with pytest.raises(UnknownCompletionError):
        await store.votes.compare("a", "b", ANN, now=2001.0)
    await store.votes.withdraw_comparison("a", ANN, now=2002.0)
    assert set((await store.votes.stats()).values()) == {0}


async def test_nothing_is_written_when_it_is_refused(
    store: Store, raw_redis: Redis, three: None, completion: MakeCompletion
) -> None:
    await store.completions.record(completion("bobs", BOB))
    asked = replace(completion("asked"), messages=(Message("user", "Something else"),))
    await store.completions.record(asked)
    for chosen, rejected in (("a", "bobs"), ("bobs", "a"), ("a", "none"), ("none", "a")):
        with pytest.raises(UnknownCompletionError, match=r"no completion '(bobs|none)'"):
            await store.votes.compare(chosen, rejected, ANN, now=2000.0)
    with pytest.raises(DifferentPromptsError, match="different messages"):
        await store.votes.compare("a", "asked", ANN, now=2000.0)
    with pytest.raises(InvalidVoteError, match="one and the same"):
        await store.votes.compare("a", "a", ANN, now=2000.0)
    assert await raw_redis.xlen(keys.FEEDBACK_LOG) == 0


async def test_racing_comparisons_leave_whole_ones(store: Store, three: None) -> None:
    orders = [("a", "b"), ("b", "a"), ("a", "c"), ("c", "b"), ("b", "c"), ("c", "a")] * 15
    await asyncio.gather(
        *(
            store.votes.compare(chosen, rejected, ANN, now=2000.0 + i)
            for i, (chosen, rejected) in enumerate(orders)
        )
    )
    # The last one to arrive is whole; the third side is left over from an earlier one.
    found = dict(zip("abc", await sides(store, "a", "b", "c"), strict=True))
    whole = [
        name
        for name, each in found.items()
        if each and each.side == "chosen" and found[each.other] == Comparison("rejected", name)
    ]
    assert len(whole) == 1
    votes = [await store.votes.get(each, ANN) for each in found]
    stats = await store.votes.stats()
    assert stats["up"] == sum(vote.score == 1.0 for vote in votes)
    assert stats["down"] == sum(vote.score == -1.0 for vote in votes)
    assert stats["pending"] == await store.votes.count_waiting() == 3
