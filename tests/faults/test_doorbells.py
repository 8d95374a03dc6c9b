"""Numbers 10 and 11, and doorbells that are lost, doubled or late: none changes what is learned."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.faults.processes import happens
from tests.support.faults.work import LEARN_LIST, ended
from workers.app import DOORBELL_SECONDS

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.faults.site import Site
    from tests.support.faults.voters import Voters

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site(site: Site) -> Site:
    """Return a site whose learners answer many doorbells each, so that none waits for its child."""
    site.environment["FAULTS_TASKS_PER_CHILD"] = "100"
    return site


async def vote(voters: Voters, votes: int) -> None:
    for _ in range(votes):
        ballot = voters.ballot((await voters.chat())["id"], "ann")
        assert (await voters.vote(ballot)).status_code == 200


async def settled(site: Site, store: Store, runs: int) -> None:
    """Wait until so many runs have ended and all doorbells are answered."""

    async def so_many() -> bool:
        return await ended(store) >= runs

    with site.redis.client() as redis:
        await happens(so_many, 60, f"{runs} runs")
        await happens(lambda: redis.llen(LEARN_LIST) == 0, 60, "An empty queue")
    # A doorbell that was taken may still be on its way to the child that answers it.
    await asyncio.sleep(1)


async def count(site: Site, store: Store) -> tuple[int, int, int]:
    """Return how many runs, versions and calls of a learner there are."""
    versions = [v for v in await store.versions.list() if v.version != "base"]
    return len(await store.runs.list(100)), len(versions), len(site.learned())


async def test_ten_doorbells_at_once_make_one_run(site: Site, store: Store, voters: Voters) -> None:
    await site.start_api()
    await vote(voters, 4)
    with site.broker() as broker:
        for _ in range(10):
            broker.send_task("thumbloop.learn")
    for name in ("one", "two"):
        site.start_worker("learn", name, FAULTS_LEARN_SECONDS="1")
    await happens(lambda: len(site.answered()) == 10, 120, "Ten answers")
    runs, versions, learned = await count(site, store)
    print(f"10 doorbells, 2 workers: runs {runs}, versions {versions}, learned {learned} times")
    assert (runs, versions, learned) == (1, 1, 1)


@pytest.mark.parametrize("batches", [2, pytest.param(10, marks=pytest.mark.long)])
async def test_two_beats_make_one_run_of_each_batch(
    site: Site, store: Store, voters: Voters, batches: int
) -> None:
    await site.start_api()
    site.start_worker("control")
    for name in ("one", "two"):
        site.start_worker("learn", name, FAULTS_LEARN_SECONDS="1")
        site.start_beat(f"beat-{name}")
    for batch in range(1, batches + 1):
        await vote(voters, 2)
        await settled(site, store, batch)
    runs, versions, learned = await count(site, store)
    print(f"2 beats, {batches} batches: runs {runs}, versions {versions}, learned {learned} times")
    assert (runs, versions, learned) == (batches, batches, batches)


@pytest.mark.long
async def test_lost_doubled_and_late_doorbells_change_nothing(
    site: Site, store: Store, voters: Voters
) -> None:
    await site.start_api()
    await vote(voters, 2)
    site.start_worker("control")
    beat = site.start_beat()
    redis = site.redis.client()
    # Lost: nobody learns, and the next look rings again.
    lost = 0
    for _ in range(2):
        await happens(lambda: redis.llen(LEARN_LIST), 30, "A doorbell")
        lost += int(redis.delete(LEARN_LIST))
    await happens(lambda: redis.llen(LEARN_LIST), 30, "Another doorbell")
    # Doubled: each message that waits is there four times.
    beat.terminate()
    await asyncio.sleep(1)
    rung_at, messages = time.monotonic(), redis.lrange(LEARN_LIST, 0, -1)
    for message in messages * 3:
        redis.lpush(LEARN_LIST, message)
    site.start_worker("learn")
    doubled = 4 * len(messages)
    await happens(lambda: len(site.answered()) == doubled, 120, "An answer to each of the doubles")
    assert await count(site, store) == (1, 1, 1)
    # Late: there is work again, but an old doorbell does not say so.
    await vote(voters, 2)
    await asyncio.sleep(max(0.0, DOORBELL_SECONDS + 1 - (time.monotonic() - rung_at)))
    redis.lpush(LEARN_LIST, messages[0])
    await happens(lambda: len(site.answered()) == doubled + 1, 30, "An answer to the late one")
    assert site.answered()[-1] == "expired"
    assert await count(site, store) == (1, 1, 1)
    # And the next good one is heard.
    site.start_beat()
    await settled(site, store, 2)
    runs, versions, learned = await count(site, store)
    print(
        f"{lost} times all doorbells lost, {len(messages)} sent four times, 1 late: runs {runs}, "
        f"versions {versions}, learned {learned} times"
    )
    assert (runs, versions, learned) == (2, 2, 2)
    redis.close()


async def test_the_api_rings_no_doorbell(site: Site, voters: Voters) -> None:
    """It never loads what could: a publish may hang a request while the broker is away."""
    seen = site.data_dir / "modules"
    api = await site.start_api(FAULTS_MODULES_FILE=str(seen))
    await vote(voters, 3)
    assert (await voters.ask_for_update()).status_code == 202
    assert api.terminate() == 0
    with site.redis.client() as redis:
        keys = redis.keys("*")
    print(f"the API left {len(keys)} keys and loaded of Celery: {seen.read_text() or 'nothing'}")
    assert seen.read_text() == ""
    assert all(key.startswith("tl:") for key in keys)
