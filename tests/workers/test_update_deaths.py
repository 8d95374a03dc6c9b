"""Learners that die, are overtaken or are asked to stop: one version, and no vote lost."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feedback.errors import FencedError
from models.adapters import WEIGHTS_FILE
from models.types import Progress
from tests.support.store.runs import let_the_lease_run_out, states
from tests.support.workers.fake_learner import Learned, make_place
from tests.support.workers.updates import Killed, killed_at
from workers.observation import next_batch
from workers.update import run_update

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from feedback.store import Store
    from tests.support.workers.fake_learner import FakeLearner
    from workers.resources import UpdateResources

    VoteOn = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ("completions", "get_many"),  # before learning
        ("runs", "commit"),  # after the adapter was published
        ("runs", "finish"),  # after the commit
        ("rollout", "do"),  # after the gate
    ],
)
async def test_a_learner_that_dies_between_steps_leaves_exactly_one_version(
    store: Store,
    raw_redis: Redis,
    workplace: tuple[UpdateResources, FakeLearner],
    vote_on: VoteOn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record: str,
    name: str,
) -> None:
    place, first = workplace
    ids = await vote_on("udu")
    with monkeypatch.context() as patch:
        killed_at(patch, getattr(store, record), name)
        with pytest.raises(Killed):
            await run_update(place)
    await let_the_lease_run_out(raw_redis)
    place, second = make_place(store, tmp_path)
    run = await run_update(place)
    versions = [v.version for v in await store.versions.list() if v.version != "base"]
    assert versions == [run.version]
    assert (await store.rollout.get()).live == run.version
    assert len(first.learned) + len(second.learned) == 1
    assert len(list(place.adapters.path(run.version).parent.iterdir())) == 1
    assert await states(store, *ids) == ["learned"] * 3
    assert len(await store.runs.list()) == 1
    assert await run_update(place) is None


async def test_a_learner_that_was_overtaken_writes_nothing(
    store: Store,
    raw_redis: Redis,
    workplace: tuple[UpdateResources, FakeLearner],
    vote_on: VoteOn,
    tmp_path: Path,
) -> None:
    slow, learner = workplace
    await vote_on("ud")
    quick, _ = make_place(store, tmp_path)
    renew = store.runs.renew
    loop = asyncio.get_running_loop()

    async def no_renewal(_run: object, **_doing: str) -> None:
        await asyncio.sleep(0)

    async def other_learner() -> None:
        await let_the_lease_run_out(raw_redis)
        await run_update(quick)

    def fall_asleep(_progress: object) -> None:
        store.runs.renew = no_renewal
        asyncio.run_coroutine_threadsafe(other_learner(), loop).result()
        store.runs.renew = renew

    learner.during = fall_asleep
    run = await run_update(slow)
    assert (run.state, run.attempts) == ("approved", 2)
    versions = [v.version for v in await store.versions.list() if v.version != "base"]
    assert versions == [run.version]
    events = [e.action for e in await store.rollout.events()]
    assert (events.count("commit"), events.count("activate")) == (1, 1)
    assert run.reason is None


async def test_a_lost_run_ends_the_learning_thread(
    store: Store,
    tmp_path: Path,
    vote_on: VoteOn,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, learner = make_place(store, tmp_path, lease=timedelta(milliseconds=200))
    await vote_on("ud")
    steps: list[int] = []

    async def lost(_run: object, **_doing: str) -> None:
        if steps:
            raise FencedError("taken over")

    def learn_for_long(progress: Callable[[Progress], None]) -> None:
        for i in range(200):
            time.sleep(0.01)
            steps.append(i)
            progress(Progress("learn", i, 200))

    monkeypatch.setattr(store.runs, "renew", lost)
    learner.during = learn_for_long
    await run_update(place)
    await asyncio.sleep(0.1)
    assert 0 < len(steps) < 50
    assert (await store.runs.get(1)).state == "claimed"


async def test_a_stop_from_outside_gives_the_run_back_at_once(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn, tmp_path: Path
) -> None:
    place, learner = workplace
    await vote_on("ud")
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def learn_for_long(progress: Callable[[Progress], None]) -> None:
        loop.call_soon_threadsafe(begun.set)
        for i in range(500):
            time.sleep(0.01)
            progress(Progress("learn", i, 500))

    learner.during = learn_for_long
    update = asyncio.create_task(run_update(place))
    await begun.wait()
    update.cancel()
    with pytest.raises(asyncio.CancelledError):
        await update
    assert not await store.runs.lease_held()
    place, again = make_place(store, tmp_path)
    run = await run_update(place)
    assert (run.state, run.attempts, len(again.learned)) == ("approved", 2, 1)


async def test_a_batch_that_kills_its_learner_is_quarantined_in_the_end(
    store: Store,
    raw_redis: Redis,
    workplace: tuple[UpdateResources, FakeLearner],
    vote_on: VoteOn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, _ = make_place(store, tmp_path, max_attempts=1)
    await vote_on("ud")
    with monkeypatch.context() as patch:
        killed_at(patch, store.completions, "get_many")
        for _ in range(3):
            with pytest.raises(Killed):
                await run_update(place)
            await let_the_lease_run_out(raw_redis)
    assert await run_update(place) is None
    run = await store.runs.get(1)
    assert (run.state, run.reason) == ("quarantined", "The run's learner died 3 times.")


async def test_a_version_published_too_late_goes_and_others_stay(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn
) -> None:
    place, learner = workplace
    await vote_on("ud")
    first = await run_update(place)

    def publish(content: bytes, **changes: Any) -> str:
        fields = {
            "sequence": first.number,
            "parent": "base",
            "batch_hash": first.batch_hash,
            "fence": 1,
            "now": 1.0,
        }
        return learner.publish(Learned(content, {}), **(fields | changes)).version

    late = publish(b"late")
    of_a_lost_record = publish(b"lost", batch_hash="0" * 40)
    unknown = publish(b"unknown", sequence=0)
    await vote_on("ud", start=2)
    second = await run_update(place)
    assert late not in place.adapters.published()
    assert place.adapters.published() == sorted(
        [first.version, second.version, of_a_lost_record, unknown]
    )


async def test_a_damaged_version_of_a_dead_learner_is_learned_again(
    store: Store,
    raw_redis: Redis,
    workplace: tuple[UpdateResources, FakeLearner],
    vote_on: VoteOn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, _ = workplace
    ids = await vote_on("ud")
    with monkeypatch.context() as patch:
        killed_at(patch, store.runs, "commit")
        with pytest.raises(Killed):
            await run_update(place)
    await let_the_lease_run_out(raw_redis)
    (version,) = place.adapters.published()
    (place.adapters.path(version) / WEIGHTS_FILE).write_bytes(b"")
    place, again = make_place(store, tmp_path)
    run = await run_update(place)
    assert (run.state, run.version, len(again.learned)) == ("approved", version, 1)
    assert place.adapters.verify(version).version == version
    assert await states(store, *ids) == ["learned"] * 2


async def test_learners_that_stop_when_asked_are_no_reason_for_quarantine(
    store: Store, workplace: tuple[UpdateResources, FakeLearner], vote_on: VoteOn, tmp_path: Path
) -> None:
    place, _ = make_place(store, tmp_path, max_attempts=1)
    await vote_on("ud")
    run = await store.runs.claim(
        await next_batch(store, place.settings), parent="base", min_votes=2, now=1.0
    )
    for _ in range(20):
        await store.runs.release(run)
        run = await store.runs.take_over()
    await store.runs.release(run)
    run = await run_update(place)
    assert (run.state, run.attempts, run.deaths) == ("approved", 22, 0)
