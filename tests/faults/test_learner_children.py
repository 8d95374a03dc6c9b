"""Numbers 13 and 14: Celery's learner child is killed as by the kernel, or asked to stop."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from service.up.parts import worker_part
from tests.support.faults.learners import Electorate, Learners, balance, until_learned
from tests.support.faults.processes import happens

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.faults.processes import Child
    from tests.support.faults.site import Site

pytestmark = pytest.mark.anyio

BATCH = "udu"


async def start_workers(site: Site, learn_seconds: float) -> Child:
    """Start all workers; return that of the learn queue."""
    site.environment |= {"THUMBLOOP_LEASE": "1", "FAULTS_LEARN_SECONDS": str(learn_seconds)}
    site.start_worker("control")
    site.start_beat()
    return site.start_worker("learn")


@pytest.mark.long
async def test_a_learner_killed_for_its_memory_is_followed_by_another(
    site: Site, store: Store
) -> None:
    electorate = Electorate(store)
    await electorate.vote(BATCH)
    parent = await start_workers(site, 1.0)
    killed: list[int] = []
    for _ in range(2):
        await happens(lambda: len(site.learned()) > len(killed), 60, "A learner at work")
        killed.append(site.learned()[-1])
        assert killed[-1] in parent.group()
        os.kill(killed[-1], signal.SIGKILL)
    hashes = {(await store.runs.get(1)).batch_hash}
    await until_learned(store, 60)
    run = await store.runs.get(1)
    assert parent.alive()
    assert {run.batch_hash} == hashes
    assert (run.attempts, run.deaths) == (3, 2)
    await promoted(store)
    books = await balance(store, electorate, Learners(site).folder)
    print(f"children killed {len(killed)}, parent alive; {books}")
    assert (books.runs, books.found) == (1, 3)
    await electorate.vote(BATCH)
    await until_learned(store, 60)
    assert parent.alive()


@pytest.mark.parametrize("to_whom", ["parent", pytest.param("group", marks=pytest.mark.long)])
async def test_a_worker_asked_to_stop_gives_its_batch_to_the_next(
    site: Site, store: Store, to_whom: str
) -> None:
    """A supervisor asks the whole group, a container's runtime the parent alone."""
    electorate = Electorate(store)
    await electorate.vote(BATCH)
    worker = await start_workers(site, 60.0)
    await happens(site.learned, 60, "A learner at work")
    before = await store.runs.get(1)
    asked = time.monotonic()
    (os.killpg if to_whom == "group" else os.kill)(worker.pid, signal.SIGTERM)
    await happens(lambda: not worker.alive(), worker_part("learn", {}).grace, "The worker's end")
    took = time.monotonic() - asked
    after = await store.runs.get(1)
    assert worker.process is not None
    assert worker.process.returncode == 0, worker.said()
    assert after.state == "claimed"
    site.start_worker("learn", "learn2", FAULTS_LEARN_SECONDS="0")
    await until_learned(store, 60)
    await promoted(store)
    run = await store.runs.get(1)
    assert (run.batch_hash, run.votes) == (before.batch_hash, before.votes)
    assert (run.attempts, run.deaths) == (2, 0)
    books = await balance(store, electorate, Learners(site).folder)
    print(f"{to_whom} asked: ended after {took:.1f} s, then the same batch again; {books}")


async def promoted(store: Store) -> None:
    async def live() -> bool:
        return (await store.rollout.get()).live == (await store.runs.list(1))[0].version

    await happens(live, 30, "The promotion")
