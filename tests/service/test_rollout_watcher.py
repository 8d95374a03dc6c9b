from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import service.rollout_watcher
from feedback.errors import StoreUnavailableError
from feedback.store import keys
from service.errors import ModelNotFoundError
from service.last_known import LastKnown
from service.metrics import Metrics
from service.rollout_watcher import RolloutWatcher

if TYPE_CHECKING:
    from pathlib import Path

    from feedback.events import Rollout
    from feedback.store import Store
    from service.settings import ServiceSettings

pytestmark = pytest.mark.anyio

V1, V2, V3 = (f"v00000{number}-{number:012x}" for number in (1, 2, 3))
V9 = "v000009-000000000009"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def make_watcher(
    generator: Any, store: Store, service_settings: ServiceSettings, metrics: Metrics
) -> Any:
    def make(used_store: Store = store) -> Any:
        last_known = LastKnown(service_settings.data_dir)
        return RolloutWatcher(generator, used_store, service_settings, last_known, metrics)

    return make


@pytest.fixture
async def versions(store: Store) -> None:
    for version in (V1, V2, V3, V9):
        await store.versions.add(version, parent="base", manifest={}, state="approved", now=1.0)


async def activate(store: Store, version: str) -> None:
    await store.rollout.activate(version, who="test", why="test", now=1.0)


async def test_a_first_look_serves_the_base(make_watcher: Any, metrics: Metrics) -> None:
    watcher = make_watcher()
    assert watcher.serving is None
    await watcher.look()
    assert watcher.serving == "base"
    assert metrics.swaps._value.get() == 0


async def test_the_engine_leaves_cores_to_a_learner_for_as_long_as_it_is_at_work(
    make_watcher: Any, generator: Any, store: Store
) -> None:
    watcher = make_watcher()
    seen = []
    for command in (("EXISTS",), ("SET", "somebody"), ("DEL",)):
        await store._client.command(command[0], keys.LEASE, *command[1:])
        await watcher.look()
        seen.append(generator.learner_has_room)
    assert seen == [False, True, False]


async def test_a_new_live_version_is_loaded_then_served(
    make_watcher: Any, store: Store, versions: None, generator: Any
) -> None:
    watcher = make_watcher()
    await watcher.look()
    await activate(store, V1)
    await watcher.look()
    assert watcher.serving == V1
    assert V1 in generator.loaded()


async def test_requests_get_the_old_version_until_the_new_one_is_loaded(
    make_watcher: Any, store: Store, versions: None, generator: Any, monkeypatch: pytest.MonkeyPatch
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
    make_watcher: Any,
    store: Store,
    versions: None,
    generator: Any,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = make_watcher()
    for version in (V1, V2, V3):
        await activate(store, version)
        await watcher.look()
    # A request may have chosen V1 and not have reached the engine yet.
    assert generator.loaded() == {"base", V1, V2, V3}
    monkeypatch.setattr(service.rollout_watcher, "LINGER_SECONDS", 0.0)
    await watcher.look()
    assert generator.loaded() == {"base", V2, V3}
    assert metrics.swaps._value.get() == 2


async def test_a_version_that_cannot_be_loaded_leaves_the_last_good_one(
    make_watcher: Any,
    store: Store,
    versions: None,
    generator: Any,
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
    make_watcher: Any, store: Store, versions: None, generator: Any, monkeypatch: pytest.MonkeyPatch
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


async def test_a_start_with_a_broken_live_version_serves_the_last_good_one(
    make_watcher: Any, store: Store, versions: None, service_settings: ServiceSettings
) -> None:
    LastKnown(service_settings.data_dir).remember(live=V2)
    await activate(store, V9)
    watcher = make_watcher()
    await watcher.look()
    assert watcher.serving == V2
    assert V9 in watcher.problem


@pytest.mark.parametrize(("remembered", "served"), [(V2, V2), (V9, "base"), (None, "base")])
async def test_a_start_without_redis_serves_what_was_live(
    make_watcher: Any, away: Store, service_settings: ServiceSettings, remembered: Any, served: str
) -> None:
    if remembered:
        LastKnown(service_settings.data_dir).remember(live=remembered)
    watcher = make_watcher(away)
    await watcher.look()
    assert watcher.serving == served
    assert watcher.store_away
    assert (watcher.problem is not None) == (remembered == V9)


async def test_when_redis_goes_away_the_version_stays(
    make_watcher: Any, store: Store, versions: None, monkeypatch: pytest.MonkeyPatch
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
    make_watcher: Any, store: Store, versions: None
) -> None:
    watcher = make_watcher()
    for version in (V1, V2, V1):
        await activate(store, version)
    await watcher.look()
    assert watcher.generation == 3
    await store.rollout._client.command("DEL", keys.ROLLOUT)
    await activate(store, V9)
    await watcher.look()
    (replica,) = await store.replicas.list()
    assert (replica.serving, replica.read_generation, replica.generation) == (V1, 1, 0)


async def test_the_replica_reports_what_it_serves(
    make_watcher: Any, store: Store, versions: None
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


async def test_a_pinned_version_survives_the_next_look(make_watcher: Any, generator: Any) -> None:
    watcher = make_watcher()
    await watcher.look()
    await watcher.pin(V3)
    await watcher.look()
    assert V3 in generator.loaded()
    with pytest.raises(ModelNotFoundError):
        await watcher.pin(V9)


async def test_ten_requests_for_one_version_load_it_once(
    make_watcher: Any, generator: Any, monkeypatch: pytest.MonkeyPatch
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
    make_watcher: Any,
    store: Store,
    versions: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    happens: Any,
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


@pytest.mark.parametrize("content", ["", "{", "[]", '{"live": 5}', '{"live": "../../x"}'])
async def test_a_broken_memory_is_no_memory(tmp_path: Path, content: Any) -> None:
    (tmp_path / "live.json").write_text(content)
    assert LastKnown(tmp_path).live is None
    assert LastKnown(tmp_path).keyed is None


async def test_the_memory_is_replaced_whole(tmp_path: Path) -> None:
    known = LastKnown(tmp_path / "new")
    known.remember(live=V1)
    known.remember(keyed=True)
    assert json.loads((tmp_path / "new" / "live.json").read_text()) == {"live": V1, "keyed": True}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["live.json"]


async def start_canary(store: Store, version: str, fraction: float = 1.0) -> None:
    await store.rollout.start_canary(version, fraction, who="test", why="test", now=1.0)


async def test_nobody_gets_the_canary_before_it_is_loaded(
    make_watcher: Any, store: Store, versions: None, generator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = make_watcher()
    await watcher.look()
    await start_canary(store, V1)
    entered, allowed = asyncio.Event(), asyncio.Event()
    load = generator.load

    async def slow(version: str) -> None:
        entered.set()
        await allowed.wait()
        await load(version)

    monkeypatch.setattr(generator, "load", slow)
    looking = asyncio.create_task(watcher.look())
    await entered.wait()
    assert watcher.version_for("anybody") == "base"
    assert watcher.generation == 0
    allowed.set()
    await looking
    assert watcher.version_for("anybody") == V1
    assert watcher.serving == "base"
    (replica,) = await store.replicas.list()
    assert (replica.serving, replica.canary, replica.generation) == ("base", V1, 1)


async def test_a_canary_that_cannot_be_loaded_leaves_the_live_version_to_all(
    make_watcher: Any, store: Store, versions: None
) -> None:
    watcher = make_watcher()
    await activate(store, V1)
    await start_canary(store, V9)
    await watcher.look()
    assert watcher.version_for("anybody") == V1
    (replica,) = await store.replicas.list()
    assert (replica.canary, replica.read_generation) == (None, 2)
    assert replica.generation < 2
    assert V9 in (replica.problem or "")
    await store.rollout.stop_canary(who="test", why="test", now=2.0)
    await watcher.look()
    assert watcher.problem is None
    assert watcher.generation == 3


async def test_the_share_of_the_canary_follows_the_rollout_until_it_ends(
    make_watcher: Any, store: Store, versions: None
) -> None:
    users = [f"user{number}" for number in range(400)]

    def on_canary() -> set[str]:
        return {user for user in users if watcher.version_for(user) == V1}

    watcher = make_watcher()
    shares = []
    for fraction in (0.2, 0.6):
        await start_canary(store, V1, fraction)
        await watcher.look()
        shares.append(on_canary())
    assert 0 < len(shares[0]) < len(shares[1]) < 400
    assert shares[0] < shares[1]
    await store.rollout.stop_canary(who="test", why="test", now=2.0)
    await watcher.look()
    assert on_canary() == set()


async def test_a_promoted_canary_is_served_to_all_without_a_load(
    make_watcher: Any, store: Store, versions: None, generator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = make_watcher()
    await start_canary(store, V1, 0.5)
    await watcher.look()

    async def never(version: str) -> None:
        pytest.fail(f"{version} was read again.")

    monkeypatch.setattr(generator, "load", never)
    await store.rollout.promote_canary(who="test", why="test", expected=V1, now=2.0)
    await watcher.look()
    assert watcher.serving == V1
    assert watcher.route.canary is None


async def test_a_slow_load_does_not_hold_up_the_next_change(
    make_watcher: Any,
    store: Store,
    versions: None,
    generator: Any,
    monkeypatch: pytest.MonkeyPatch,
    happens: Any,
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
    await store.rollout.kill(who="test", why="test", now=2.0)
    await happens(lambda: watcher.serving == "base", seconds=2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await watcher.leave()


async def test_the_doorbell_tells_of_a_change_long_before_the_next_look(
    make_watcher: Any, store: Store, versions: None, service_settings: ServiceSettings, happens: Any
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
    make_watcher: Any, store: Store, versions: None, monkeypatch: pytest.MonkeyPatch, happens: Any
) -> None:
    class Silent:
        async def wait(self) -> bool:
            raise StoreUnavailableError("Away.")

        async def close(self) -> None:
            pass

    monkeypatch.setattr(store, "news", lambda patience: Silent())
    watcher = make_watcher()
    await watcher.look()
    running = asyncio.create_task(watcher.run())
    await activate(store, V1)
    await happens(lambda: watcher.serving == V1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(("remembered", "served"), [(V2, V2), (V9, V1), (None, V1)])
async def test_a_start_with_a_broken_live_version_and_memory_serves_the_confirmed_one(
    make_watcher: Any,
    store: Store,
    versions: None,
    service_settings: ServiceSettings,
    remembered: str | None,
    served: str,
) -> None:
    broken = "v000008-000000000008"
    await store.versions.add(broken, parent=V1, manifest={}, state="approved", now=1.0)
    await activate(store, V1)
    await store.rollout.activate(broken, who="learner", why="test", now=2.0)
    if remembered:
        LastKnown(service_settings.data_dir).remember(live=remembered)
    watcher = make_watcher()
    await watcher.look()
    assert watcher.serving == served
    assert broken in watcher.problem
    assert served in watcher.problem


async def test_a_replica_that_leaves_takes_its_record_along(
    make_watcher: Any, store: Store
) -> None:
    watcher = make_watcher()
    await watcher.look()
    assert len(await store.replicas.list()) == 1
    await watcher.leave()
    assert await store.replicas.list() == []


async def test_a_data_folder_that_cannot_be_written_keeps_nobody_from_following(
    make_watcher: Any, store: Store, versions: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("service.last_known.tempfile.mkstemp", full)
    watcher = make_watcher()
    await activate(store, V1)
    await watcher.look()
    assert (watcher.serving, watcher.problem) == (V1, None)
