"""A replica that misses a change is named, and follows as soon as it can."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from service.operating.convergence import converged
from tests.support.faults.processes import free_port, happens
from tests.support.faults.versions import Versions

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.faults.processes import Child
    from tests.support.faults.site import Site

pytestmark = pytest.mark.anyio


@pytest.fixture
async def other(site: Site) -> tuple[Child, str]:
    """Start two replicas; return the second one and where it listens."""
    port = free_port()
    await site.start_api()
    return await site.start_api("other", port=str(port)), f"http://127.0.0.1:{port}"


async def test_a_replica_that_hangs_through_a_change_is_named_and_then_follows(
    site: Site, store: Store, other: tuple[Child, str]
) -> None:
    child, url = other
    versions = Versions(site, store)
    version = await versions.publish(1)
    child.pause()
    async with httpx.AsyncClient(base_url=site.url, trust_env=False, timeout=20) as http:
        body = {"version": version, "wait": 1}
        changed = (await http.post("/admin/rollout/activate", json=body)).json()
    found = changed["settled"]
    assert (found["all"], found["replicas"]) == (False, 2)
    (missing,) = found["missing"]
    assert (missing["url"], missing["serving"]) == (url, "base")
    assert "not read" in missing["problem"]
    child.resume()
    assert (await converged(store, changed["generation"], 10)).all
    assert await versions.speaker(url=url) == version


@pytest.mark.long
async def test_a_replica_that_dies_is_waited_for_only_until_its_record_is_gone(
    site: Site, store: Store, other: tuple[Child, str]
) -> None:
    child, url = other
    versions = Versions(site, store)
    version = await versions.publish(1)
    child.kill()
    found = await converged(store, await versions.activate(version), 20)
    assert found.all
    assert found.replicas == 1
    assert found.seconds < 12
    child.spawn()

    async def serves() -> bool:
        try:
            return await versions.speaker(url=url) == version
        except httpx.TransportError:
            return False

    await happens(serves, 60, "That a replica that comes back serves what is live")


async def test_replicas_that_stop_are_not_waited_for(
    site: Site, store: Store, other: tuple[Child, str]
) -> None:
    child, _ = other
    assert {replica.url for replica in await store.replicas.list()} == {site.url, other[1]}
    assert await asyncio.to_thread(child.terminate) == 0
    (left,) = await store.replicas.list()
    assert left.url == site.url
    assert 0 <= time.time() - left.started_at < 120


@pytest.mark.long
async def test_changes_reach_replicas_after_redis_was_away(
    site: Site, store: Store, other: tuple[Child, str]
) -> None:
    versions = Versions(site, store)
    first, second = await versions.publish(1), await versions.publish(2)
    assert (await converged(store, await versions.activate(first), 10)).all
    site.redis.kill()
    for url in (site.url, other[1]):
        assert await versions.speaker(url=url) == first
    await site.redis.start()
    generation = await versions.activate(second)

    async def both() -> bool:
        found = await converged(store, generation, 1)
        return found.all and found.replicas == 2

    await happens(both, 20, "That both replicas serve what changed once Redis was back")
    for url in (site.url, other[1]):
        assert await versions.speaker(url=url) == second
