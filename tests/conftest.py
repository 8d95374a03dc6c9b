"""Fixtures that every part's tests share: real throwaway Redis servers, and the store on one."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from feedback.settings import FeedbackSettings
from feedback.store import EmbeddedRedis, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

_START_TIMEOUT_S = 20.0


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Server:
    """A Redis that a test started and may kill."""

    redis: EmbeddedRedis
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return self.redis.url

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _answers(server: EmbeddedRedis) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(server.socket))
            line.sendall(b"PING\r\n")
            return line.recv(16) == b"+PONG\r\n"
        except OSError:
            return False


def _start(data_dir: Path) -> Server:
    redis = EmbeddedRedis(data_dir)
    server = Server(redis, subprocess.Popen(redis.command(), stdout=subprocess.DEVNULL))
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not _answers(redis):
        if server.process.poll() is not None or time.monotonic() > deadline:
            server.kill()
            pytest.fail(f"{redis.command()} did not start")
        time.sleep(0.01)
    return server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a throwaway server that all tests of the session share."""
    server = _start(tmp_path_factory.mktemp("data"))
    yield server.url
    server.kill()


@pytest.fixture
def start_redis() -> Iterator[Callable[[Path], Server]]:
    """Start servers of the test's own, for tests that break or restart them."""
    servers: list[Server] = []

    def start(data_dir: Path) -> Server:
        servers.append(_start(data_dir))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def feedback_settings(tmp_path: Path) -> FeedbackSettings:
    return FeedbackSettings(data_dir=tmp_path, retry_delay=timedelta(0))


@pytest.fixture
async def store(redis_url: str, feedback_settings: FeedbackSettings) -> AsyncIterator[Store]:
    """Return a store on the session's throwaway server, emptied."""
    store = Store.connect(redis_url, feedback_settings)
    await store._client.command("FLUSHALL")
    yield store
    await store.close()
