"""Runs the real application on a real Redis, and drives a headless Chromium against it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn
from playwright.async_api import Browser, Page, async_playwright

from service.app.application import create_app
from service.settings import ServiceSettings
from tests.support.scripted_generator import ScriptedGenerator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from playwright.async_api import ConsoleMessage, Request

    from feedback.store import Store

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"No Chromium is installed; put one of {', '.join(NAMES)} on the PATH.")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


@dataclass
class Site:
    """The running application, and what a test may look at behind it."""

    url: str
    store: Store
    generator: ScriptedGenerator

    async def until(self, path: str, right: Callable[[httpx.Response], bool]) -> None:
        """Wait until the answer to a GET is right."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            for _ in range(500):
                with contextlib.suppress(httpx.TransportError):
                    if right(await client.get(path)):
                        return
                await asyncio.sleep(0.02)
        pytest.fail(f"{path} did not come to answer what the test waits for.")

    async def until_ready(self) -> None:
        await self.until("/readyz", lambda answer: answer.is_success)

    async def until_served(self, version: str) -> None:
        await self.until("/readyz", lambda answer: answer.json()["serving"] == version)

    async def until_keyed(self) -> None:
        await self.until("/v1/models", lambda answer: answer.status_code == 401)


@pytest.fixture
async def site(store: Store, redis_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    settings = ServiceSettings(
        data_dir=tmp_path, redis_url=redis_url, poll_interval=timedelta(milliseconds=50)
    )
    generator = ScriptedGenerator()
    app = create_app(settings, generator=generator, store=store)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site = Site(f"http://127.0.0.1:{listener.getsockname()[1]}", store, generator)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await site.until_ready()
        yield site
        server.should_exit = True
        await serving


@dataclass
class Watch:
    """What no page may do: complain in the console, or ask any other server for anything."""

    origin: str
    complaints: list[str] = field(default_factory=list)

    def console(self, message: ConsoleMessage) -> None:
        # Chromium notes every answer of 4xx and 5xx itself; tests bring some about on purpose.
        if message.type in {"error", "warning"} and "status of" not in message.text:
            self.complaints.append(message.text)

    def request(self, request: Request) -> None:
        if not request.url.startswith(self.origin):
            self.complaints.append(f"asked for {request.url}")


@pytest.fixture
async def page(browser: Browser, site: Site) -> AsyncIterator[Page]:
    context = await browser.new_context(base_url=site.url, reduced_motion="reduce")
    page = await context.new_page()
    page.set_default_timeout(10_000)
    watch = Watch(site.url)
    page.on("console", watch.console)
    page.on("request", watch.request)
    page.on("pageerror", lambda error: watch.complaints.append(str(error)))
    yield page
    await context.close()
    assert watch.complaints == []
