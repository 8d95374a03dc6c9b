"""The one way to Redis: commands and scripts, with the errors of redis-py translated."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feedback.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

    from redis.commands.core import AsyncScript

_TIMEOUT = 5.0
_CONNECTIONS = 64
_SCRIPTS = Path(__file__).parent / "lua"
_REFUSALS = ("OOM", "MISCONF", "READONLY", "LOADING", "NOREPLICAS", "MASTERDOWN", "BUSY")

Argument = str | int | float


@cache
def _source(name: str) -> str:
    """Return a script with the helpers that all scripts share in front of it."""
    shared = (_SCRIPTS / "shared.lua").read_text(encoding="utf-8")
    return shared + (_SCRIPTS / f"{name}.lua").read_text(encoding="utf-8")


class Client:
    """A pool of connections to one Redis.

    No command is sent twice: a reply that got lost may belong to a write that happened, and only
    the caller can tell whether to ask again.
    """

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            decode_responses=True,
            max_connections=_CONNECTIONS,
            timeout=_TIMEOUT,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._scripts: dict[str, AsyncScript] = {}
        self._under_way: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Let the calls under way end, then close the connections."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._redis.aclose()

    async def command(self, *words: Argument) -> Any:
        """Send one command.

        Raises:
            StoreUnavailableError: Redis is away, or refuses.
        """
        return await self._whole(self._redis.execute_command(*words))  # type: ignore[no-untyped-call]

    async def script(
        self, name: str, keys: Sequence[str] = (), args: Iterable[Argument] = ()
    ) -> Any:
        """Run ``lua/<name>.lua``; all of it happens, or nothing.

        Raises:
            StoreUnavailableError: Redis is away, or refuses.
        """
        if name not in self._scripts:
            self._scripts[name] = self._redis.register_script(_source(name))
        return await self._whole(self._scripts[name](keys=keys, args=args))

    async def hash(self, key: str) -> dict[str, str]:
        """Return a whole hash; empty when there is none."""
        found: dict[str, str] = await self.command("HGETALL", key)
        return found

    async def hashes(self, keys: Sequence[str]) -> list[dict[str, str]]:
        """Return many whole hashes in one round trip, in order; empty ones for what is missing."""
        if not keys:
            return []
        return [fields(found) for found in await self.script("hashes", keys)]

    async def _whole(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Wait for a call; a caller that is cancelled meanwhile leaves it to end by itself.

        Cutting a call off between its request and its reply once gave the reply to the next user
        of the connection. Redis-py closes such a connection today; here it is never cut off.
        """
        task = asyncio.ensure_future(_translated(call))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)


async def _translated(call: Coroutine[Any, Any, Any]) -> Any:
    """Wait for a call; raise what the rest of Thumbloop knows instead of redis-py's errors."""
    try:
        return await call
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise StoreUnavailableError(
            "The feedback store (Redis) cannot be reached; nothing was promised. "
            f"Check that it runs and that THUMBLOOP_REDIS_URL names it, then try again. ({error})"
        ) from error
    except ResponseError as error:
        if not any(word in str(error) for word in _REFUSALS):
            raise
        raise StoreUnavailableError(
            "The feedback store (Redis) refused the request; nothing was promised. "
            f"Check its memory, its disk and its role, then try again. ({error})"
        ) from error


def fields(flat: Sequence[str]) -> dict[str, str]:
    """Return a hash from the flat list of names and values that a script returns."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
