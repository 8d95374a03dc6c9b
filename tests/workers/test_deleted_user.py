"""An update whose batch has votes of a user who is deleted meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from feedback.types import Person
from workers.update import run_update

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from feedback.store import Store
    from models.types import Progress
    from tests.support.workers.fake_learner import FakeLearner
    from workers.resources import UpdateResources

    VoteOn = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio

ANN = Person("k1", "ann")


async def interrupt(workplace: tuple[UpdateResources, FakeLearner]) -> None:
    """Claim the votes that wait in an update that is stopped before it has learned."""
    place, learner = workplace

    def stop(_: Callable[[Progress], None]) -> None:
        raise asyncio.CancelledError

    learner.during = stop
    with pytest.raises(asyncio.CancelledError):
        await run_update(place)
    learner.during = lambda _: None
    learner.learned.clear()


async def test_a_claimed_run_ends_without_the_votes_of_a_deleted_user(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    await vote_on("uu")
    await vote_on("d", start=2, user="bob")
    place, learner = workplace
    await interrupt(workplace)
    await store.users.delete(ANN, who="ops")
    run = await run_update(place)
    assert run is not None
    assert (run.state, run.report["dropped_missing"]) == ("approved", 2)
    assert [[sample.completion_id for sample in each] for each in learner.learned] == [["c2"]]
    assert (await store.rollout.get()).live == run.version
    assert (await store.votes.get("c2", Person("k1", "bob"))).version == run.version
    stats = await store.votes.stats()
    assert {name: count for name, count in stats.items() if count} == {"down": 1, "learned": 1}


async def test_a_user_who_is_deleted_while_the_learner_learns_is_not_marked_as_learned(
    store: Store, raw_redis: Redis, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    await vote_on("uu")
    place, learner = workplace
    loop = asyncio.get_running_loop()

    def during(_: Callable[[Progress], None]) -> None:
        asyncio.run_coroutine_threadsafe(store.users.delete(ANN, who="ops"), loop).result(10)

    learner.during = during
    run = await run_update(place)
    assert run is not None
    assert run.state == "approved"
    assert set((await store.votes.stats()).values()) == {0}
    assert (await raw_redis.exists("tl:feedback:c0", "tl:feedback:c1")) == 0


async def test_a_batch_of_which_nothing_is_left_makes_way_for_the_next(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    await vote_on("uu")
    place, _ = workplace
    await interrupt(workplace)
    await store.users.delete(ANN, who="ops")
    ended = [await run_update(place) for _ in range(place.settings.max_attempts)][-1]
    assert ended is not None
    assert ended.state == "quarantined"
    assert "2 are gone" in (ended.reason or "")
    await vote_on("ud", start=5, user="bob")
    following = await run_update(place)
    assert following is not None
    assert following.state == "approved"
