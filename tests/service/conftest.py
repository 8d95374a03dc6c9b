"""Fixtures of the HTTP tests: an application around a fake generator, in process or listening."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from feedback.store import Store
from service.app.application import create_app
from service.app.server import Server, listen
from service.runtime.lifecycle import Lifecycle
from service.settings import ServiceSettings
from tests.support.generators.fake import FakeGenerator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from redis import Redis

    from service.runtime.runtime import Runtime

V1, V2, V3 = (f"v00000{number}-{number:012x}" for number in (1, 2, 3))


@dataclass
class Running:
    """An application in process, and the client that talks to it."""

    client: httpx.AsyncClient
    runtime: Runtime
    generator: Any


@pytest.fixture
def service_settings(tmp_path: Path) -> ServiceSettings:
    return ServiceSettings(data_dir=tmp_path, poll_interval=timedelta(milliseconds=20))


@pytest.fixture
def generator() -> Any:
    return FakeGenerator(available=(V1, V2, V3))


@contextlib.asynccontextmanager
async def run_app(
    settings: ServiceSettings, generator: Any, store: Store, *, started: bool = True
) -> AsyncIterator[Running]:
    app = create_app(settings, generator, store)
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        if started:
            await state["runtime"].started.wait()
        transport = httpx.ASGITransport(with_state)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield Running(client, state["runtime"], generator)


@pytest.fixture
def start_app() -> Callable[..., AbstractAsyncContextManager[Running]]:
    return run_app


@pytest.fixture
async def running(
    service_settings: ServiceSettings, generator: Any, store: Store
) -> AsyncIterator[Running]:
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


@dataclass
class Listening:
    """A server on a port of its own, run by a thread of its own."""

    url: str
    generator: Any
    lifecycle: Lifecycle


@pytest.fixture
def listening(
    service_settings: ServiceSettings, generator: Any, empty_redis_url: str
) -> Iterator[Listening]:
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
    wait_until(lambda: httpx.get(f"{url}/readyz").is_success)
    yield Listening(url, generator, lifecycle)
    server.should_exit = True
    thread.join()


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("It did not happen in time.")
        time.sleep(0.01)


@pytest.fixture
def happens() -> Callable[..., Awaitable[None]]:
    """Return a function that waits, without blocking the loop, until a condition holds."""

    async def wait(condition: Callable[[], object], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until


@pytest.fixture
def chat() -> Callable[..., Awaitable[httpx.Response]]:
    """Return a function that says `Hi` to an application, with whatever else is asked for."""

    async def send(running: Running, **fields: Any) -> httpx.Response:
        body = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}], **fields}
        return await running.client.post("/v1/chat/completions", json=body)

    return send


@pytest.fixture
def events() -> Callable[[httpx.Response], list[str]]:
    """Return a function that lists the data of a stream's events."""

    def read(response: httpx.Response) -> list[str]:
        lines = [line for line in response.text.splitlines() if line.startswith("data: ")]
        return [line.removeprefix("data: ") for line in lines]

    return read
