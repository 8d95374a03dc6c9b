"""The application around a fake generator, in process or listening, and who talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import pytest

from service.app.application import create_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from feedback.store import Store
    from service.runtime.lifecycle import Lifecycle
    from service.runtime.runtime import Runtime
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator


@dataclass
class RunningApp:
    """An application in process, and the client that talks to it."""

    client: httpx.AsyncClient
    runtime: Runtime
    generator: FakeGenerator


@dataclass
class ListeningApp:
    """A server on a port of its own, run by a thread of its own."""

    url: str
    generator: FakeGenerator
    lifecycle: Lifecycle


class StartApp(Protocol):
    """The fixture ``start_app``: an application with settings or a generator of the test's own."""

    def __call__(
        self,
        settings: ServiceSettings,
        generator: FakeGenerator,
        store: Store,
        *,
        started: bool = True,
    ) -> AbstractAsyncContextManager[RunningApp]: ...


class SayHi(Protocol):
    """The fixture ``chat``: says `Hi` to an application, with whatever else is asked for."""

    async def __call__(self, running: RunningApp, **fields: Any) -> httpx.Response: ...


class Happens(Protocol):
    """The fixture ``happens``: waits, without blocking the loop, until a condition holds."""

    async def __call__(self, condition: Callable[[], object], seconds: float = 10.0) -> None: ...


class Until(Protocol):
    """The fixture ``until``: waits until a condition holds."""

    def __call__(self, condition: Callable[[], object], seconds: float = 10.0) -> None: ...


class ReadEvents(Protocol):
    """The fixture ``events``: lists the data of a stream's events."""

    def __call__(self, response: httpx.Response) -> list[str]: ...


@contextlib.asynccontextmanager
async def run_app(
    settings: ServiceSettings, generator: FakeGenerator, store: Store, *, started: bool = True
) -> AsyncIterator[RunningApp]:
    """Run an application in this process; ``started`` waits until it is ready."""
    app = create_app(settings, generator, store)
    async with app.router.lifespan_context(app) as state:
        assert state is not None

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        if started:
            await state["runtime"].started.wait()
        transport = httpx.ASGITransport(with_state)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield RunningApp(client, state["runtime"], generator)


async def say_hi(running: RunningApp, **fields: Any) -> httpx.Response:
    body = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return await running.client.post("/v1/chat/completions", json=body)


async def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)


def block_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("It did not happen in time.")
        time.sleep(0.01)


def read_events(response: httpx.Response) -> list[str]:
    lines = [line for line in response.text.splitlines() if line.startswith("data: ")]
    return [line.removeprefix("data: ") for line in lines]
