"""The one way to Redis: commands, scripts, and scripts that wait until their effect is on disk."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from feedback.store import keys
from feedback.store.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_TIMEOUT = 5.0
_CONNECTIONS = 64
_SCRIPTS = Path(__file__).parent / "lua"

Argument = str | int | float


@cache
def source(name: str) -> str:
    """Return a script, after the keys that it names and the functions that all scripts share."""
    files = (_SCRIPTS / "shared.lua", _SCRIPTS / f"{name}.lua")
    script = "".join(file.read_text(encoding="utf-8") for file in files)
    return keys.lua(script) + script


@cache
def _hash(name: str) -> str:
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


class Client:
    """Two pipelines to one Redis, so that reads never wait for a durable write.

    Args:
        url: Where it is.
        durable: Whether ``durable_script`` waits until the effect is on disk.
    """

    def __init__(self, url: str, *, durable: bool = True) -> None:
        self.url = url
        self._calls = Pipeline(_pool(url), durable=False)
        self._durable_calls = Pipeline(_pool(url), durable=True) if durable else self._calls
        self._shapes = Redis().response_callbacks

    async def close(self) -> None:
        """Let the calls under way end, then close the connections."""
        await self._calls.close()
        await self._durable_calls.close()

    async def command(self, name: str, *words: Argument) -> Any:
        """Send one command.

        Raises:
            StoreUnavailableError: Redis is away, or refuses.
        """
        answer = await self._calls.ask((*name.split(), *words))
        shape = self._shapes.get(name)
        return shape(answer) if shape else answer

    async def script(
        self, name: str, keys: Sequence[str] = (), args: Iterable[Argument] = ()
    ) -> Any:
        """Run ``lua/<name>.lua``; all of it happens, or nothing. It may be lost in a crash.

        Raises:
            StoreUnavailableError: Redis is away, or refuses.
        """
        return await _run(self._calls, name, keys, args)

    async def durable_script(
        self, name: str, keys: Sequence[str] = (), args: Iterable[Argument] = ()
    ) -> Any:
        """Run a script and return once its effect, with all that came before, is on disk.

        Raises:
            StoreUnavailableError: Redis is away, refuses, or cannot write to disk.
        """
        return await _run(self._durable_calls, name, keys, args)

    async def check_durability(self) -> None:
        """Ask whether Redis can keep what ``durable_script`` writes.

        Raises:
            StoreUnavailableError: It cannot, or is away; the message says what to set.
        """
        await self._durable_calls.ask(("PING",))

    async def hash(self, key: str) -> dict[str, str]:
        """Return a whole hash; empty when there is none."""
        found: dict[str, str] = await self.command("HGETALL", key)
        return found

    async def hashes(self, keys: Sequence[str]) -> list[dict[str, str]]:
        """Return many whole hashes in one round trip, in order; empty ones for what is missing."""
        if not keys:
            return []
        return [fields(found) for found in await self.script("hashes", keys)]


async def _run(pipeline: Pipeline, name: str, keys: Sequence[str], args: Iterable[Argument]) -> Any:
    words = (len(keys), *keys, *args)
    return await pipeline.ask(
        ("EVALSHA", _hash(name), *words), in_full=("EVAL", source(name), *words)
    )


def _pool(url: str) -> BlockingConnectionPool:
    return BlockingConnectionPool.from_url(
        url,
        decode_responses=True,
        max_connections=_CONNECTIONS,
        timeout=_TIMEOUT,
        socket_timeout=_TIMEOUT,
        socket_connect_timeout=_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )


def fields(flat: Sequence[str]) -> dict[str, str]:
    """Return a hash from the flat list of names and values in which a script returns it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
