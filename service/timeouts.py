"""Waiting for Redis for a bounded time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from feedback.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import timedelta

T = TypeVar("T")


async def within(limit: timedelta, call: Awaitable[T]) -> T:
    """Return what a call to the store returns, if it does so in time.

    The store lets a command whose caller went away end by itself, so a connection is never left
    with somebody else's answer in it; a write may still happen after the time ran out.

    Raises:
        StoreUnavailableError: The time ran out.
    """
    try:
        async with asyncio.timeout(limit.total_seconds()):
            return await call
    except TimeoutError as error:
        raise StoreUnavailableError(
            "Redis did not answer in time. Try again in a moment."
        ) from error
