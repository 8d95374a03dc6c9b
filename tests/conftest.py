"""Fixtures that every part's tests share: real throwaway Redis servers, and the store on one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from redis import Redis as BlockingRedis

from feedback.settings import FeedbackSettings
from feedback.store import Store
from tests.support.store.servers import RedisServer, StartRedis, plain_client, start_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from redis.asyncio import Redis


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a throwaway server that all tests of the session share."""
    server = start_server(tmp_path_factory.mktemp("data"))
    yield server.url
    server.kill()


@pytest.fixture
def start_redis() -> Iterator[StartRedis]:
    """Start servers of the test's own, for tests that break or restart them."""
    servers: list[RedisServer] = []

    def start(data_dir: Path) -> RedisServer:
        servers.append(start_server(data_dir))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def feedback_settings(tmp_path: Path) -> FeedbackSettings:
    return FeedbackSettings(data_dir=tmp_path, retry_delay=timedelta(0))


@pytest.fixture
async def raw_redis(redis_url: str) -> AsyncIterator[Redis]:
    """Return a plain client on the throwaway server, to look behind the store's back."""
    async with plain_client(redis_url) as client:
        yield client


@pytest.fixture
def empty_redis(redis_url: str) -> Iterator[BlockingRedis]:
    """Return a plain client on the throwaway server, emptied, for tests that are not async."""
    with BlockingRedis.from_url(redis_url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
async def store(
    redis_url: str, raw_redis: Redis, feedback_settings: FeedbackSettings
) -> AsyncIterator[Store]:
    """Return a store on the session's throwaway server, emptied."""
    await raw_redis.flushall()
    store = Store.connect(redis_url, feedback_settings)
    yield store
    await store.close()
