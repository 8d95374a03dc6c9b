"""Runs the real application on a real Redis, and drives a headless Chromium against it."""

from __future__ import annotations

import asyncio
import shutil
import socket
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import uvicorn
from playwright.async_api import Browser, Page, async_playwright

from service.app.application import create_app
from service.settings import ServiceSettings
from tests.support.generators.scripted import ScriptedGenerator
from tests.support.service.pages import PageSite, PageWatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

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


@pytest.fixture
def cors_origins() -> tuple[str, ...]:
    """Return the other origins that may call the application; a test may have some."""
    return ()


@pytest.fixture
async def site(
    store: Store, redis_url: str, tmp_path: Path, cors_origins: tuple[str, ...]
) -> AsyncIterator[PageSite]:
    settings = ServiceSettings(
        data_dir=tmp_path,
        redis_url=redis_url,
        poll_interval=timedelta(milliseconds=50),
        cors_origins=cors_origins,
    )
    generator = ScriptedGenerator()
    app = create_app(settings, generator=generator, store=store)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site = PageSite(f"http://127.0.0.1:{listener.getsockname()[1]}", store, generator)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await site.until_ready()
        yield site
        server.should_exit = True
        await serving


@pytest.fixture
async def page(browser: Browser, site: PageSite) -> AsyncIterator[Page]:
    context = await browser.new_context(base_url=site.url, reduced_motion="reduce")
    page = await context.new_page()
    page.set_default_timeout(10_000)
    watch = PageWatch(site.url)
    page.on("console", watch.console)
    page.on("request", watch.request)
    page.on("pageerror", lambda error: watch.complaints.append(str(error)))
    yield page
    await context.close()
    assert watch.complaints == []
