from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from feedback.errors import StoreUnavailableError
from feedback.store import Store, keys
from feedback.types import Audit
from models.versions import Activate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from feedback.settings import FeedbackSettings
    from feedback.store.notifications import RolloutNotifications
    from tests.support.store.servers import StartRedis

pytestmark = pytest.mark.anyio
V1, V2 = "v000001-000000000001", "v000002-000000000002"


@pytest.fixture
async def news(store: Store) -> AsyncIterator[RolloutNotifications]:
    bell = store.notifications(timedelta(milliseconds=200))
    yield bell
    await bell.close()


async def add_versions(store: Store) -> None:
    for version in (V1, V2):
        await store.versions.add(version, parent="base", manifest={}, state="approved", now=1.0)


async def activate(store: Store, version: str) -> None:
    await store.rollout.do(Activate(version), Audit("test", "test", 1.0))


async def test_a_change_ends_the_wait(store: Store, news: RolloutNotifications) -> None:
    await add_versions(store)
    waiting = asyncio.create_task(news.wait())
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await activate(store, V1)
    assert await waiting
    assert time.monotonic() - began < 0.1


async def test_the_wait_ends_without_a_change(store: Store, news: RolloutNotifications) -> None:
    await add_versions(store)
    await activate(store, V1)
    began = time.monotonic()
    assert not await news.wait()
    assert 0.1 < time.monotonic() - began < 1


async def test_what_changed_between_two_waits_is_told_by_the_second(
    store: Store, news: RolloutNotifications
) -> None:
    await add_versions(store)
    assert not await news.wait()
    await activate(store, V1)
    await activate(store, V2)
    assert await news.wait()
    assert not await news.wait()


async def test_a_wait_that_is_given_up_spoils_nothing(
    store: Store, news: RolloutNotifications
) -> None:
    await add_versions(store)
    waiting = asyncio.create_task(news.wait())
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await activate(store, V1)
    assert await news.wait()


@pytest.mark.parametrize("seconds", [0, 0.0005, 0.001, 0.002, 0.05])
async def test_it_closes_at_once_whatever_it_is_at(store: Store, seconds: float) -> None:
    bell = store.notifications(timedelta(seconds=30))
    waiting = asyncio.create_task(bell.wait())
    await asyncio.sleep(seconds)
    waiting.cancel()
    async with asyncio.timeout(2):
        await asyncio.gather(waiting, return_exceptions=True)
        await bell.close()


async def test_without_redis_it_says_so_and_comes_back_with_it(
    start_redis: StartRedis, tmp_path: Path, feedback_settings: FeedbackSettings
) -> None:
    server = start_redis(tmp_path)
    store = Store.connect(server.url, feedback_settings)
    bell = store.notifications(timedelta(milliseconds=100))
    await add_versions(store)
    assert not await bell.wait()
    server.kill()
    with pytest.raises(StoreUnavailableError):
        await bell.wait()
    again = start_redis(tmp_path)
    async with again.client() as raw_redis:
        await raw_redis.delete(keys.EVENTS)
    await activate(store, V1)
    assert await bell.wait()
    await bell.close()
    await store.close()
    again.kill()
