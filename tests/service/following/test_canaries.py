"""A replica follows a canary."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from feedback.types import Audit
from models.versions import PromoteCanary, StartCanary, StopCanary
from tests.support.rollout.versions import V1, V9, activate

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.generators.fake import FakeGenerator
    from tests.support.rollout.watchers import MakeWatcher

pytestmark = pytest.mark.anyio


async def start_canary(store: Store, version: str, fraction: float = 1.0) -> None:
    await store.rollout.do(StartCanary(version, fraction), Audit("test", "test", 1.0))


async def test_nobody_gets_the_canary_before_it_is_loaded(
    make_watcher: MakeWatcher,
    store: Store,
    versions: None,
    generator: FakeGenerator,
    monkeypatch: pytest.MonkeyPatch,
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
    make_watcher: MakeWatcher, store: Store, versions: None
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
    await store.rollout.do(StopCanary(), Audit("test", "test", 2.0))
    await watcher.look()
    assert watcher.problem is None
    assert watcher.generation == 3


async def test_the_share_of_the_canary_follows_the_rollout_until_it_ends(
    make_watcher: MakeWatcher, store: Store, versions: None
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
    await store.rollout.do(StopCanary(), Audit("test", "test", 2.0))
    await watcher.look()
    assert on_canary() == set()


async def test_a_promoted_canary_is_served_to_all_without_a_load(
    make_watcher: MakeWatcher,
    store: Store,
    versions: None,
    generator: FakeGenerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = make_watcher()
    await start_canary(store, V1, 0.5)
    await watcher.look()

    async def never(version: str) -> None:
        pytest.fail(f"{version} was read again.")

    monkeypatch.setattr(generator, "load", never)
    await store.rollout.do(PromoteCanary(V1), Audit("test", "test", 2.0))
    await watcher.look()
    assert watcher.serving == V1
    assert watcher.route.canary is None
