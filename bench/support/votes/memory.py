"""Measures the memory that completions and votes take in Redis."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from bench.support.votes.calls import OWNER
from bench.support.votes.rig import AT_ONCE, completion, redis_server
from feedback.settings import FeedbackSettings
from feedback.store import Store, keys
from feedback.types import Person, Vote

TOKENS = (48, 300)
RECORDS = 5_000
"""Of each kind; enough that what a server keeps beside them does not show."""


async def measure(binary: Path | None) -> dict[str, Any]:
    """Return the bytes of a completion and of a vote, at each length of replies."""
    found = {}
    for tokens in TOKENS:
        with (
            tempfile.TemporaryDirectory(prefix="thumbloop-memory-") as folder,
            redis_server(Path(folder), binary) as (url, _),
        ):
            found[f"{tokens} tokens"] = await _weigh(url, tokens)
    return found


async def _weigh(url: str, tokens: int) -> dict[str, int]:
    store = Store.connect(url, FeedbackSettings(durability="memory"))
    async with Redis.from_url(url) as redis:
        empty = await _used(redis)
        await in_pieces(
            RECORDS, lambda number: store.completions.record(completion(number, tokens=tokens))
        )
        recorded = await _used(redis)
        await in_pieces(RECORDS, lambda number: put(store, number))
        voted = await _used(redis)
        whole = {
            "completion, used_memory": (recorded - empty) // RECORDS,
            "completion, its hash": await redis.memory_usage(keys.completion("bench-7"), samples=0),
            "vote, used_memory": (voted - recorded) // RECORDS,
            "vote, its hash": await redis.memory_usage(keys.feedback("bench-7"), samples=0),
        }
    await store.close()
    return whole


async def put(store: Store, number: int) -> None:
    """Put a thumb on one completion."""
    vote = Vote(thumb="up" if number % 2 else "down")
    score = 1.0 if number % 2 else -1.0
    await store.votes.put(f"bench-{number}", Person(OWNER, ""), vote, score, now=time.time())


async def in_pieces(count: int, call: Any, start: int = 0) -> None:
    """Await a call for each number, some at once."""
    for first in range(start, count, AT_ONCE):
        await asyncio.gather(*(call(n) for n in range(first, min(first + AT_ONCE, count))))


async def _used(redis: Redis) -> int:
    found: int = (await redis.info("memory"))["used_memory"]
    return found
