"""A TCP proxy that can swallow everything without closing anything."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """Passes connections on to a port, until it is told to behave like a black hole.

    Attributes:
        swallowing: Bytes of either direction vanish; connections stay open, new ones open too.
        swallowed: Bytes that vanished so far.
    """

    target: int
    port: int = 0
    swallowing: bool = False
    swallowed: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there: asyncio.StreamWriter | None = None
        try:
            away, there = await asyncio.open_connection("127.0.0.1", self.target)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, there))
                group.create_task(self._pass_on(away, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, there):
                if end is not None:
                    end.close()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        lost = False
        while data := await source.read(65536):
            # What a connection lost once, it never gets: the rest would make no sense to its end.
            lost = lost or self.swallowing
            if lost:
                self.swallowed += len(data)
            else:
                sink.write(data)
                await sink.drain()
        sink.close()
