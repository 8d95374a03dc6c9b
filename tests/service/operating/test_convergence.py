from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from feedback.types import Replica
from service.operating.convergence import converged

if TYPE_CHECKING:
    from feedback.store import Store

pytestmark = pytest.mark.anyio
TTL = timedelta(seconds=10)


async def report(
    store: Store, name: str, generation: int, *, read: int | None = None, problem: str | None = None
) -> None:
    read = generation if read is None else read
    seen = time.time()
    replica = Replica(
        name,
        "base",
        ("base",),
        generation,
        seen,
        problem,
        read_generation=read,
        url=f"http://{name}:8000",
    )
    await store.replicas.report(replica, TTL)


async def test_all_have_it_at_once(store: Store) -> None:
    await report(store, "a", 3)
    await report(store, "b", 4)
    found = await converged(store, 3, 0)
    assert found.all
    assert (found.replicas, found.missing) == (2, ())


async def test_the_wait_ends_when_the_last_one_has_it(store: Store) -> None:
    await report(store, "a", 3)
    await report(store, "b", 2, read=3)
    waiting = asyncio.create_task(converged(store, 3, 10))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await report(store, "b", 3)
    found = await waiting
    assert found.all
    assert 0.2 <= found.seconds < 1


async def test_those_without_it_are_named_with_the_reason(store: Store) -> None:
    await report(store, "a", 3)
    await report(store, "b", 2)
    await report(store, "c", 2, read=3)
    await report(store, "d", 2, read=3, problem="The adapter was altered.")
    silent = Replica("e", "base", ("base",), 2, time.time() - 7)
    await store.replicas.report(silent, TTL)
    found = await converged(store, 3, 0.1)
    assert not found.all
    assert found.replicas == 5
    b, c, d, e = found.missing
    assert (b.id, b.url, b.serving) == ("b", "http://b:8000", "base")
    assert "not read" in b.problem
    assert "loading" in c.problem
    assert d.problem == "The adapter was altered."
    assert "7 s" in e.problem


async def test_nobody_waits_for_those_who_said_that_they_cannot(store: Store) -> None:
    await report(store, "a", 3)
    await report(store, "b", 2, read=3, problem="The adapter was altered.")
    found = await converged(store, 3, 60)
    assert not found.all
    assert found.seconds < 1


async def test_a_problem_with_the_generation_before_is_no_reason_to_give_up(store: Store) -> None:
    await report(store, "b", 1, read=2, problem="The adapter was altered.")
    waiting = asyncio.create_task(converged(store, 3, 10))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await report(store, "b", 3)
    assert (await waiting).all


async def test_a_replica_that_ends_meanwhile_is_not_waited_for(store: Store) -> None:
    await report(store, "a", 3)
    await report(store, "b", 2)
    waiting = asyncio.create_task(converged(store, 3, 10))
    await asyncio.sleep(0.05)
    await store.replicas.remove("b")
    found = await waiting
    assert (found.all, found.replicas) == (True, 1)


async def test_without_replicas_there_is_nobody_to_wait_for(store: Store) -> None:
    found = await converged(store, 3, 5)
    assert (found.all, found.replicas) == (True, 0)


async def test_without_redis_nothing_is_claimed(away: Store) -> None:
    found = await converged(away, 3, 0.1)
    assert not found.all
    assert "Redis" in (found.problem or "")
