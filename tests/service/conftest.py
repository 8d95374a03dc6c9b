"""Fixtures of the HTTP tests: an application around a fake generator, in process or listening."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn

from feedback.store import Store
from service.app.application import create_app
from service.app.server import Server, listen
from service.runtime.lifecycle import Lifecycle
from service.settings import ServiceSettings
from tests.support.generators.fake import FakeGenerator
from tests.support.service.application import (
    Happens,
    ListeningApp,
    ReadEvents,
    RunningApp,
    SayHi,
    StartApp,
    Until,
    block_until,
    read_events,
    run_app,
    say_hi,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from redis import Redis

V1, V2, V3 = (f"v00000{number}-{number:012x}" for number in (1, 2, 3))


@pytest.fixture
def service_settings(tmp_path: Path) -> ServiceSettings:
    return ServiceSettings(data_dir=tmp_path, poll_interval=timedelta(milliseconds=20))


@pytest.fixture
def generator() -> FakeGenerator:
    return FakeGenerator(available=(V1, V2, V3))


@pytest.fixture
def start_app() -> StartApp:
    return run_app


@pytest.fixture
async def running(
    service_settings: ServiceSettings, generator: FakeGenerator, store: Store
) -> AsyncIterator[RunningApp]:
    async with run_app(service_settings, generator, store) as found:
        yield found


@pytest.fixture
async def away(tmp_path: Path, service_settings: ServiceSettings) -> AsyncIterator[Store]:
    """Return a store whose Redis is not there."""
    store = Store.connect(f"unix://{tmp_path}/nobody.sock", service_settings)
    yield store
    await store.close()


@pytest.fixture
def empty_redis_url(redis_url: str, empty_redis: Redis) -> str:
    """Return the URL of the throwaway server, emptied."""
    return redis_url


@pytest.fixture
def listening(
    service_settings: ServiceSettings, generator: FakeGenerator, empty_redis_url: str
) -> Iterator[ListeningApp]:
    settings = service_settings.model_copy(
        update={"redis_url": empty_redis_url, "heartbeat": timedelta(milliseconds=100)}
    )
    lifecycle = Lifecycle()
    config = uvicorn.Config(
        create_app(settings, generator, lifecycle=lifecycle),
        log_config=None,
        lifespan="on",
        timeout_graceful_shutdown=5,
    )
    server = Server(config, lifecycle, 0)
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    block_until(lambda: httpx.get(f"{url}/readyz").is_success)
    yield ListeningApp(url, generator, lifecycle)
    server.should_exit = True
    thread.join()


@pytest.fixture
def happens() -> Happens:
    return wait_until


@pytest.fixture
def until() -> Until:
    return block_until


@pytest.fixture
def chat() -> SayHi:
    return say_hi


@pytest.fixture
def events() -> ReadEvents:
    return read_events
