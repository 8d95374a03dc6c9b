"""A replica follows what is live: it loads, serves and lets go of versions."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

import service.following.watcher
from feedback.errors import StoreUnavailableError
from feedback.store import keys
from feedback.types import Audit
from models.versions import Kill
from service.errors import ModelNotFoundError
from service.following.last_known import LastKnown
from tests.support.rollout.versions import V1, V2, V3, V9, activate

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from feedback.store import Store
    from feedback.types import Rollout
    from service.metrics.metrics import Metrics
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.rollout.watchers import MakeWatcher
    from tests.support.service.application import Happens

pytestmark = pytest.mark.anyio


async def test_a_first_look_serves_the_base(make_watcher: MakeWatcher, metrics: Metrics) -> None:
    watcher = make_watcher()
    assert watcher.serving is None
    await watcher.look()
    assert watcher.serving == "base"
    assert metrics.swaps._value.get() == 0


async def test_the_engine_leaves_cores_to_a_learner_for_as_long_as_it_is_at_work(
    make_watcher: MakeWatcher, generator: FakeGenerator, store: Store, raw_redis: Redis
) -> None:
    watcher = make_watcher()
    seen = []
    for command in (("EXISTS",), ("SET", "somebody"), ("DEL",)):
        await raw_redis.execute_command(command[0], keys.LEASE, *command[1:])
        await watcher.look()
        seen.append(generator.learner_has_room)
    assert seen == [False, True, False]


async def test_a_new_live_version_is_loaded_then_served(
    make_watcher: MakeWatcher, store: Store, versions: None, generator: FakeGenerator
) -> None:
    watcher = make_watcher()
    await watcher.look()
    await activate(store, V1)
    await watcher.look()
    assert watcher.serving == V1
    assert V1 in generator.loaded()


async def test_requests_get_the_old_version_until_the_new_one_is_loaded(
    make_watcher: MakeWatcher,
    store: Store,
    versions: None,
    generator: FakeGenerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = make_watcher()
    await watcher.look()
    await activate(store, V1)
    entered, allowed = asyncio.Event(), asyncio.Event()
    load = generator.load

    async def slow(version: str) -> None:
        entered.set()
        await allowed.wait()
        await load(version)

    monkeypatch.setattr(generator, "load", slow)
    looking = asyncio.create_task(watcher.look())
    await entered.wait()
    assert watcher.serving == "base"
    allowed.set()
    await looking
    assert watcher.serving == V1


async def test_the_version_before_stays_loaded_and_older_ones_go_after_a_while(
    make_watcher: MakeWatcher,
    store: Store,
    versions: None,
    generator: FakeGenerator,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = make_watcher()
    for version in (V1, V2, V3):
        await activate(store, version)
        await watcher.look()
    # A request may have chosen V1 and not have reached the engine yet.
    assert generator.loaded() == {"base", V1, V2, V3}
    monkeypatch.setattr(service.following.watcher, "LINGER_SECONDS", 0.0)
    await watcher.look()
    assert generator.loaded() == {"base", V2, V3}
    assert metrics.swaps._value.get() == 2


async def test_a_version_that_cannot_be_loaded_leaves_the_last_good_one(
    make_watcher: MakeWatcher,
    store: Store,
    versions: None,
    generator: FakeGenerator,
    service_settings: ServiceSettings,
) -> None:
    watcher = make_watcher()
    await activate(store, V1)
    await watcher.look()
    await activate(store, V9)
    await watcher.look()
    assert watcher.serving == V1
    assert V9 in watcher.problem
    assert LastKnown(service_settings.data_dir).live == V1
    (replica,) = await store.replicas.list()
    assert replica.serving == V1
    assert replica.problem == watcher.problem
    generator.available.add(V9)
    watcher._loads._failures[V9] = replace(watcher._loads._failures[V9], retry_at=0.0)
    await watcher.look()
    assert watcher.serving == V9
    assert watcher.problem is None


async def test_a_broken_live_version_is_not_read_again_at_every_look(
    make_watcher: MakeWatcher,
    store: Store,
    versions: None,
    generator: FakeGenerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = make_watcher()
    await watcher.look()
    await activate(store, V9)
    tried = []
    load = generator.load

    async def counted(version: str) -> None:
        tried.append(version)
        await load(version)

    monkeypatch.setattr(generator, "load", counted)
    for _ in range(5):
        await watcher.look()
    assert tried == [V9]


async def test_when_redis_goes_away_the_version_stays(
    make_watcher: MakeWatcher, store: Store, versions: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await activate(store, V1)
    watcher = make_watcher()
    await watcher.look()

    async def gone() -> None:
        raise StoreUnavailableError("Away.")

    with monkeypatch.context() as patched:
        patched.setattr(store.rollout, "get", gone)
        await watcher.look()
        assert watcher.store_away
        assert watcher.serving == V1
    await activate(store, V2)
    await watcher.look()
    assert not watcher.store_away
    assert watcher.serving == V2


async def test_what_a_lost_record_counted_is_not_claimed_of_the_next_one(
    make_watcher: MakeWatcher, store: Store, raw_redis: Redis, versions: None
) -> None:
    watcher = make_watcher()
    for version in (V1, V2, V1):
        await activate(store, version)
    await watcher.look()
    assert watcher.generation == 3
    await raw_redis.delete(keys.ROLLOUT)
    await activate(store, V9)
    await watcher.look()
    (replica,) = await store.replicas.list()
    assert (replica.serving, replica.read_generation, replica.generation) == (V1, 1, 0)


async def test_the_replica_reports_what_it_serves(
    make_watcher: MakeWatcher, store: Store, versions: None
) -> None:
    await activate(store, V1)
    watcher = make_watcher()
    await watcher.look()
    (replica,) = await store.replicas.list()
    assert replica.id == watcher.replica_id
    assert replica.serving == V1
    assert replica.loaded == ("base", V1)
    assert replica.generation == 1
    assert replica.problem is None


async def test_a_pinned_version_survives_the_next_look(
    make_watcher: MakeWatcher, generator: FakeGenerator
) -> None:
    watcher = make_watcher()
    await watcher.look()
    await watcher.pin(V3)
    await watcher.look()
    assert V3 in generator.loaded()
    with pytest.raises(ModelNotFoundError):
        await watcher.pin(V9)


async def test_a_look_right_behind_the_load_leaves_a_pinned_version_alone(
    make_watcher: MakeWatcher, generator: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.following.watcher, "LINGER_SECONDS", 0.0)
    watcher, load = make_watcher(), generator.load
    await watcher.look()

    async def load_and_look(version: str) -> None:
        await load(version)
        await watcher._act()

    monkeypatch.setattr(generator, "load", load_and_look)
    await watcher.pin(V3)
    assert V3 in generator.loaded()


async def test_ten_requests_for_one_version_load_it_once(
    make_watcher: MakeWatcher, generator: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = make_watcher()
    loads = []
    load = generator.load

    async def counted(version: str) -> None:
        loads.append(version)
        await load(version)

    monkeypatch.setattr(generator, "load", counted)
    await asyncio.gather(*(watcher.pin(V1) for _ in range(10)))
    assert loads == [V1]


async def test_the_looks_go_on_after_an_error(
    make_watcher: MakeWatcher,
    store: Store,
    versions: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    happens: Happens,
) -> None:
    watcher = make_watcher()
    calls = 0
    get = store.rollout.get

    async def flaky() -> Rollout:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("Unforeseen.")
        return await get()

    monkeypatch.setattr(store.rollout, "get", flaky)
    running = asyncio.create_task(watcher.run())
    await happens(lambda: watcher.serving)
    running.cancel()
    assert "Unforeseen." in caplog.text


async def test_a_slow_load_does_not_hold_up_the_next_change(
    make_watcher: MakeWatcher,
    store: Store,
    versions: None,
    generator: FakeGenerator,
    monkeypatch: pytest.MonkeyPatch,
    happens: Happens,
) -> None:
    load = generator.load

    async def hangs(version: str) -> None:
        if version == V2:
            await asyncio.Event().wait()
        await load(version)

    monkeypatch.setattr(generator, "load", hangs)
    watcher = make_watcher()
    await activate(store, V1)
    await watcher.look()
    running = asyncio.create_task(watcher.run())
    await activate(store, V2)
    await happens(lambda: watcher.rollout.live == V2)
    assert watcher.serving == V1
    await store.rollout.do(Kill(), Audit("test", "test", 2.0))
    await happens(lambda: watcher.serving == "base", seconds=2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await watcher.leave()


async def test_the_doorbell_tells_of_a_change_long_before_the_next_look(
    make_watcher: MakeWatcher,
    store: Store,
    versions: None,
    service_settings: ServiceSettings,
    happens: Happens,
) -> None:
    watcher = make_watcher()
    watcher._settings = service_settings.model_copy(update={"poll_interval": timedelta(seconds=60)})
    await watcher.look()
    running = asyncio.create_task(watcher.run())
    await asyncio.sleep(0.1)
    await activate(store, V1)
    await happens(lambda: watcher.serving == V1, seconds=2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_looks_follow_each_other_where_no_doorbell_rings(
    make_watcher: MakeWatcher,
    store: Store,
    versions: None,
    monkeypatch: pytest.MonkeyPatch,
    happens: Happens,
) -> None:
    class Silent:
        async def wait(self) -> bool:
            raise StoreUnavailableError("Away.")

        async def close(self) -> None:
            pass

    monkeypatch.setattr(store, "notifications", lambda patience: Silent())
    watcher = make_watcher()
    await watcher.look()
    running = asyncio.create_task(watcher.run())
    await activate(store, V1)
    await happens(lambda: watcher.serving == V1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_replica_that_leaves_takes_its_record_along(
    make_watcher: MakeWatcher, store: Store
) -> None:
    watcher = make_watcher()
    await watcher.look()
    assert len(await store.replicas.list()) == 1
    await watcher.leave()
    assert await store.replicas.list() == []
