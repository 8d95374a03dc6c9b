from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from feedback.events import Replica
from feedback.store import keys

if TYPE_CHECKING:
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


async def test_a_silent_replica_is_forgotten(store: Store) -> None:
    await store.replicas.report(Replica("a", "base", ("base",), 0, 5.0), timedelta(milliseconds=20))
    await asyncio.sleep(0.05)
    assert await store.replicas.list() == []
    assert await store._client.command("SCARD", keys.REPLICAS) == 0
