"""Numbers 6 and 7: the workers lose their broker in two ways, and consume again by themselves."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.support.faults.processes import free_port
from tests.support.faults.proxy import Proxy
from tests.support.faults.work import look_comes, run_comes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from feedback.store import Store
    from tests.support.faults.site import Site
    from tests.support.faults.voters import Voters

pytestmark = [pytest.mark.anyio, pytest.mark.long]

WITHIN_SECONDS = 60.0


@pytest.mark.parametrize("restarts", [3, 20])
@pytest.mark.timeout(900)
async def test_workers_and_beat_survive_restarts_of_redis(
    site: Site, store: Store, voters: Voters, restarts: int
) -> None:
    await site.start_api()
    site.start_workers()
    await run_comes(site, store, voters, WITHIN_SECONDS)
    chance = random.Random(restarts)
    looks = []
    for _ in range(restarts):
        site.redis.kill()
        await asyncio.sleep(chance.uniform(0, 2))
        await site.redis.start()
        looks.append(await look_comes(store, WITHIN_SECONDS))
    update = await run_comes(site, store, voters, WITHIN_SECONDS)
    print(
        f"{restarts} restarts: a look after {max(looks):.1f} s at most, an update after "
        f"{update:.1f} s; {voters.summary()}, runs {len(await store.runs.list(100))}"
    )
    assert all(child.alive() for child in site.children)


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """Return a way to a port on which a site's Redis may listen."""
    found = Proxy(free_port())
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def site(make_site: Callable[..., Site], proxy: Proxy) -> Site:
    """Return a site whose Redis also listens behind the proxy."""
    made = make_site(redis_port=proxy.target)
    await made.redis.start()
    return made


async def test_workers_leave_a_black_hole(
    site: Site, store: Store, voters: Voters, proxy: Proxy
) -> None:
    """Connections that were open then stay mute for ever; new ones work after three seconds."""
    await site.start_api()
    site.environment["THUMBLOOP_REDIS_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
    site.start_workers()
    await run_comes(site, store, voters, WITHIN_SECONDS)
    proxy.swallowing = True
    await asyncio.sleep(3)
    proxy.swallowing = False
    look = await look_comes(store, WITHIN_SECONDS)
    update = await run_comes(site, store, voters, WITHIN_SECONDS - look)
    print(
        f"black hole: a look {look:.1f} s after it, an update {look + update:.1f} s after it; "
        f"{voters.summary()}, runs {len(await store.runs.list(100))}"
    )
    assert proxy.swallowed > 0
    assert all(child.alive() for child in site.children)
