"""A client that streams chats over a raw HTTP/1.1 connection, at little cost a token.

Client and server share the machine's cores in a bench, so what the client spends is missing from
what it measures. Events are read as bytes, and only the last ones as JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "/v1/chat/completions"
_READ = 1 << 16
_TEXT = re.compile(rb'"content":\s*"(?!")')
_CRLF = b"\r\n"


class StreamError(Exception):
    """The server answered with something else than a stream that ends well."""


class Response:
    """One HTTP response, taken apart as it arrives.

    Attributes:
        status: 0 until the head is complete.
        headers: By lower-case name.
        body: What is left of the body after its complete events.
        ended: Whether all of it is here.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self._raw = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take in what was read; return the data of each event that it completed.

        Raises:
            ValueError: It isn't HTTP/1.1 with a chunked body or a declared length.
        """
        self._raw += data
        if not self.status and not self._take_head():
            return []
        if self.headers.get("transfer-encoding") == "chunked":
            self._take_chunks()
        else:
            self._take_declared()
        *events, self.body = self.body.split(b"\n\n")
        return [e.removeprefix(b"data: ") for e in events if e.startswith(b"data: ")]

    def _take_head(self) -> bool:
        head, found, rest = self._raw.partition(_CRLF + _CRLF)
        if not found:
            return False
        first, *lines = head.decode("latin-1").split("\r\n")
        self._raw = rest
        self.status = int(first.split()[1])
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}
        return True

    def _take_chunks(self) -> None:
        while not self.ended:
            head, found, rest = self._raw.partition(_CRLF)
            if not found:
                return
            size = int(head.split(b";")[0], 16)
            if len(rest) < size + len(_CRLF):
                return
            self.body += rest[:size].replace(_CRLF, b"\n")
            self._raw = rest[size + len(_CRLF) :]
            self.ended = size == 0

    def _take_declared(self) -> None:
        length = int(self.headers["content-length"])
        if len(self._raw) >= length:
            self.body, self._raw, self.ended = self._raw[:length], self._raw[length:], True


@dataclass(slots=True)
class Reply:
    """One streamed reply as it grows; times are ``time.monotonic`` seconds.

    Attributes:
        arrivals: When each piece of text came. A piece is a token in all but a few cases.
        events: The data of every event.
        problem: Why it failed; empty if it did not.
    """

    model: str
    sent: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    arrivals: list[float] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    ended: bool = False
    problem: str = ""

    @property
    def first_seconds(self) -> float | None:
        """Seconds from the request to the first piece of text."""
        return self.arrivals[0] - self.sent if self.arrivals else None

    @property
    def usage(self) -> dict[str, int] | None:
        """The token counts that the server gave, if it did."""
        for event in reversed(self.events):
            if b'"usage"' in event and (found := json.loads(event).get("usage")):
                usage: dict[str, int] = found
                return usage
        return None

    @property
    def text(self) -> str:
        """All of its text."""
        pieces = (json.loads(event) for event in self.events if _TEXT.search(event))
        return "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)

    def add(self, event: bytes, now: float) -> None:
        """Take in the data of one event.

        Raises:
            StreamError: It says that the server failed.
        """
        self.events.append(event)
        if _TEXT.search(event):
            self.arrivals.append(now)
        elif event.startswith((b'{"error"', b'{"object":"error"')):
            raise StreamError(event.decode()[:300])


class Connection:
    """Asks one question after the other; connects again after a failure.

    Args:
        url: The server, for example ``http://127.0.0.1:8000``.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._path = parts.path.rstrip("/").removesuffix("/v1") + PATH
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: Mapping[str, Any], reply: Reply | None = None) -> Reply:
        """Send a chat request and read the stream to its end.

        Cancelling this closes the connection, as a client does that leaves.

        Args:
            body: The request but for what makes it a stream.
            reply: Filled in as the answer comes; a new one by default.

        Returns:
            The reply; a failure stands in its ``problem``.
        """
        reply = reply or Reply(str(body["model"]))
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        try:
            await self._exchange(json.dumps({**body, **stream}).encode(), reply)
        except (OSError, EOFError, ValueError, KeyError, StreamError) as error:
            reply.problem = f"{type(error).__name__}: {error}"
        finally:
            if not reply.ended:
                self.close()
        return reply

    def close(self) -> None:
        """Close the connection at once."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _exchange(self, content: bytes, reply: Reply) -> None:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()  # idle for longer than the server keeps a connection
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(self._head(len(content)) + content)
        reply.sent = time.monotonic()
        response = Response()
        while not response.ended:
            data = await reader.read(_READ)
            if not data:
                raise EOFError("The server closed the connection.")
            now = time.monotonic()
            for event in response.feed(data):
                reply.add(event, now)
            reply.status, reply.headers = response.status, response.headers
        reply.ended = True
        if response.headers.get("connection") == "close":
            self.close()
        if response.status != 200:
            raise StreamError(f"{response.status}: {response.body.decode(errors='replace')[:300]}")

    def _head(self, length: int) -> bytes:
        return (
            f"POST {self._path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        ).encode()
