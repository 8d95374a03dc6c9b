"""Server-sent events: a response that sends each event as it comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response

from models.one_line import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from starlette.types import Receive, Scope, Send

PING = b": ping\n"
"""A comment. An empty line behind it would be the end of an event to some readers."""
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""Nothing on the way may keep the events, nor hold them back, as nginx does by default."""


class EventStream(Response):
    """Sends what ``events`` yields as the data of one event each, until it ends or the client goes.

    One task sends; another waits for the client to leave. A comment is sent where ``ping`` seconds
    brought no event, so that nothing on the way takes the connection for dead. (sse-starlette
    opens a cancel scope around each event, an eighth of the event loop's work at 32 streams.)

    Args:
        events: The data of the events: JSON, or a text without line breaks.
        headers: Further headers.
        ping: Seconds between comments.
        close: Called when the stream has ended, however it ended.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[str],
        *,
        headers: Mapping[str, str],
        ping: float,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(headers=dict(headers) | HEADERS)
        del self.headers["content-length"]
        self._events = events
        self._ping_seconds = ping
        self._quiet = True
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        del scope
        sending = asyncio.create_task(self._send(send))
        others = [asyncio.create_task(self._ping(send)), asyncio.create_task(left(receive))]
        try:
            await asyncio.wait({sending, others[1]}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        finally:
            for task in (sending, *others):
                task.cancel()
            await asyncio.gather(sending, *others, return_exceptions=True)
            await self._close()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async for data in self._events:
            body = b"data: " + one_line(data).encode() + b"\n\n"
            self._quiet = False
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ping(self, send: Send) -> None:
        while True:
            self._quiet = True
            await asyncio.sleep(self._ping_seconds)
            if not self._quiet:
                continue
            await send({"type": "http.response.body", "body": PING, "more_body": True})


async def left(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
