from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from feedback.store import keys
from feedback.types import Replica

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from feedback.store import Store

pytestmark = pytest.mark.anyio
MINUTE = timedelta(minutes=1)


async def test_replicas_say_what_they_serve(store: Store) -> None:
    a = Replica("a", "base", ("base",), 0, 5.5)
    b = Replica("b", "base", ("base", "v000001-0123456789ab"), 1, 6.5, "adapter is broken")
    await store.replicas.report(b, MINUTE)
    await store.replicas.report(a, MINUTE)
    assert await store.replicas.list() == [a, b]


async def test_a_later_report_replaces_the_one_before(store: Store) -> None:
    await store.replicas.report(Replica("a", "base", ("base",), 0, 5.0, "late"), MINUTE)
    later = Replica("a", "base", ("base",), 1, 6.0)
    await store.replicas.report(later, MINUTE)
    assert await store.replicas.list() == [later]


async def test_a_silent_replica_is_forgotten(store: Store, raw_redis: Redis) -> None:
    await store.replicas.report(Replica("a", "base", ("base",), 0, 5.0), timedelta(milliseconds=20))
    await asyncio.sleep(0.05)
    assert await store.replicas.list() == []
    assert await raw_redis.scard(keys.REPLICAS) == 0


async def test_a_report_keeps_all_that_it_says(store: Store) -> None:
    said = Replica(
        "a",
        "base",
        ("base", "v000001-0123456789ab"),
        3,
        6.5,
        canary="v000001-0123456789ab",
        read_generation=4,
        started_at=1.25,
        url="http://a:8000",
    )
    await store.replicas.report(said, MINUTE)
    assert await store.replicas.list() == [said]


async def test_a_replica_that_stops_is_forgotten_at_once(store: Store, raw_redis: Redis) -> None:
    for name in ("a", "b"):
        await store.replicas.report(Replica(name, "base", ("base",), 0, 5.0), MINUTE)
    await store.replicas.remove("a")
    assert [replica.id for replica in await store.replicas.list()] == ["b"]
    assert await raw_redis.smembers(keys.REPLICAS) == {"b"}
