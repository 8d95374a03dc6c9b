"""Fixtures that every part's tests share: a real throwaway Redis, and the store on it."""

from __future__ import annotations

import subprocess
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from feedback.settings import FeedbackSettings
from feedback.store import EmbeddedRedis, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

_START_TIMEOUT_S = 20.0


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def start_redis(data_dir: Path) -> tuple[EmbeddedRedis, subprocess.Popen[bytes]]:
    """Start the embedded Redis of a data folder and wait for its socket."""
    server = EmbeddedRedis(data_dir)
    process = subprocess.Popen(server.command(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not server.socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            pytest.fail(f"{server.command()} did not start")
        time.sleep(0.01)
    return server, process


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    server, process = start_redis(tmp_path_factory.mktemp("data"))
    yield server
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def redis_url(redis_server: EmbeddedRedis) -> str:
    return redis_server.url


@pytest.fixture
def feedback_settings(tmp_path: Path) -> FeedbackSettings:
    return FeedbackSettings(data_dir=tmp_path, lease=timedelta(milliseconds=200))


@pytest.fixture
async def store(redis_url: str, feedback_settings: FeedbackSettings) -> AsyncIterator[Store]:
    """Return a store on an empty server; it flushes that throwaway server, and no other."""
    store = Store.connect(redis_url, feedback_settings)
    await store._client.command("FLUSHALL")
    yield store
    await store.close()
