"""Which batch a look finds, and what it does with votes that are too stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from feedback.types import Person
from workers.observation import next_batch, watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from feedback.store import Store
    from tests.support.workers.fake_learner import FakeLearner
    from workers.resources import UpdateResources
    from workers.settings import WorkerSettings

    VoteOn = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio
ANN = Person("k1", "ann")
OLD, LIVE = "v000001-0123456789ab", "v000009-0123456789ab"


@pytest.fixture
def settings(workplace: tuple[UpdateResources, FakeLearner]) -> WorkerSettings:
    return workplace[0].settings


def changed(settings: WorkerSettings, **fields: Any) -> WorkerSettings:
    return settings.model_copy(update=fields)


async def batch_of(store: Store, settings: WorkerSettings) -> list[str]:
    return [vote.completion_id for vote in await next_batch(store, settings)]


async def make_live(raw_redis: Redis, version: str) -> None:
    await raw_redis.hset("tl:rollout", "live", version)


async def test_the_order_is_a_setting(
    store: Store, settings: WorkerSettings, vote_on: VoteOn
) -> None:
    await vote_on("uuu")
    assert await batch_of(store, changed(settings, max_votes=2)) == ["c0", "c1"]
    newest = changed(settings, max_votes=2, batch_order="newest")
    assert await batch_of(store, newest) == ["c2", "c1"]


async def test_one_users_flood_leaves_room_for_the_others(
    store: Store, settings: WorkerSettings, vote_on: VoteOn
) -> None:
    await vote_on("u" * 60, user="flood")
    await vote_on("dd", start=60, user="bob")
    await vote_on("ud", start=62, user="eve")
    found = await batch_of(store, changed(settings, max_votes=6))
    assert found == ["c0", "c1", "c60", "c61", "c62", "c63"]


async def test_stale_votes_make_room_and_say_why(
    store: Store, raw_redis: Redis, settings: WorkerSettings, vote_on: VoteOn
) -> None:
    await vote_on("u" * 40, version=OLD)
    await vote_on("ud", start=40, version=LIVE)
    await make_live(raw_redis, LIVE)
    # Two votes in a batch, so 8 votes a read, and at most four reads a look.
    strict = changed(settings, max_votes=2, max_version_lag=7)
    assert await batch_of(store, strict) == []
    assert (await store.votes.stats())["discarded"] == 32
    assert await batch_of(store, strict) == ["c40", "c41"]
    vote = await store.votes.get("c0", ANN)
    assert vote.state == "discarded"
    assert vote.reason is not None
    assert "8 versions before the live one; at most 7" in vote.reason
    stats = await store.votes.stats()
    assert (stats["pending"], stats["discarded"]) == (2, 40)


async def test_without_a_bound_no_vote_is_stale(
    store: Store, raw_redis: Redis, settings: WorkerSettings, vote_on: VoteOn
) -> None:
    await vote_on("ud", version=OLD)
    await make_live(raw_redis, LIVE)
    assert await batch_of(store, settings) == ["c0", "c1"]
    assert await batch_of(store, changed(settings, max_version_lag=8)) == ["c0", "c1"]


async def test_a_look_counts_only_what_can_be_learned(
    store: Store, raw_redis: Redis, settings: WorkerSettings, vote_on: VoteOn
) -> None:
    await vote_on("uu", version=OLD)
    await make_live(raw_redis, LIVE)
    await store.learning.request_update("op", now=1.0)
    decision = await watch(store, changed(settings, max_version_lag=2), now=3000.0)
    assert (decision.action, decision.answer) == (
        "rest",
        "No votes are waiting to be learned from.",
    )
