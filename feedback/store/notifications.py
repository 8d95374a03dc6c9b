"""Notifications of the rollout, for those who follow it between their own regular reads.

Every change of the rollout adds an entry to its audit. Whoever waits for that entry knows of a
change within milliseconds, and no writer has to send anything. A notification says only that
something changed; its reader then reads the rollout.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from feedback.errors import StoreUnavailableError
from feedback.store import keys

if TYPE_CHECKING:
    from datetime import timedelta

_CONNECT_SECONDS = 5.0
_GRACE_SECONDS = 5.0
"""How much longer than asked Redis may take to say that nothing came."""

_CANCEL_SECONDS = 0.05
_AT_ONCE = 100


class RolloutNotifications:
    """A connection of its own to Redis, for one that waits.

    Args:
        url: Where Redis is.
        patience: How long one wait lasts at most.
    """

    def __init__(self, url: str, patience: timedelta) -> None:
        self._milliseconds = max(1, round(1000 * patience.total_seconds()))
        self._redis = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=patience.total_seconds() + _GRACE_SECONDS,
            socket_connect_timeout=_CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._last: str | None = None
        self._asking: asyncio.Task[bool] | None = None

    async def wait(self) -> bool:
        """Wait for a change of the rollout; say whether there was one.

        The second of two waits also ends for what changed between them. A wait that is cancelled
        goes on by itself, and the next one takes it up: no answer is left on the connection.

        Raises:
            StoreUnavailableError: Redis is away, or refuses.
        """
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        changed = self._asking
        try:
            return await asyncio.shield(changed)
        finally:
            if changed.done():
                self._asking = None

    async def close(self) -> None:
        """Close the connection."""
        while self._asking is not None and not self._asking.done():
            # Again and again, because redis-py takes no note of it while it connects.
            self._asking.cancel()
            await asyncio.wait({self._asking}, timeout=_CANCEL_SECONDS)
        await self._redis.aclose()

    async def _ask(self) -> bool:
        try:
            if self._last is None:
                self._last = await self._newest()
            found = await self._redis.xread(
                {keys.EVENTS: self._last}, count=_AT_ONCE, block=self._milliseconds
            )
        except (RedisError, OSError) as error:
            raise StoreUnavailableError(
                f"The feedback store (Redis) does not report changes. ({error})"
            ) from error
        if not found:
            return False
        streams: Any = found  # its type covers the answers of all protocols, RESP3's too
        ((_, entries),) = streams
        self._last = entries[-1][0]
        return True

    async def _newest(self) -> str:
        entries = await self._redis.xrevrange(keys.EVENTS, count=1)
        return str(entries[0][0]) if entries else "0-0"
