"""The running application that a browser visits, and what no page may do."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.async_api import ConsoleMessage, Request

    from feedback.store import Store
    from tests.support.generators.scripted import ScriptedGenerator


@dataclass
class PageSite:
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


@dataclass
class PageWatch:
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
