"""Times a look at the waiting votes, a claim and a vote while more and more votes wait."""

from __future__ import annotations

import hashlib
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import UnixDomainSocketConnection

from bench.support.votes.calls import NOTING, OWNER, noted, noted_vote
from bench.support.votes.rig import completion, redis_server
from feedback.settings import FeedbackSettings
from feedback.store import Store, client, keys
from feedback.types import FrozenVote, Person, Vote

if TYPE_CHECKING:
    from collections.abc import Awaitable

STEPS = (1_000, 10_000, 100_000, 1_000_000)
PIECE = 1_000
REPEATS = 9
BATCH = 64
PEOPLE = 1_000
MODEL_ID, MODEL_USER = b"bench-5000000", b"person-500"
"""Stand for a record's own in what is sent; all have the same length."""


async def measure(binary: Path | None, most: int) -> list[dict[str, Any]]:
    """Return the median milliseconds of each at every size."""
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="thumbloop-scale-") as folder,
        redis_server(Path(folder), binary) as (url, _),
    ):
        filled = 0
        for size in (step for step in STEPS if step <= most):
            await _fill(url, filled, size)
            filled = size
            rows.append({"waiting": size, **await _times(url)})
            sys.stderr.write(f"{rows[-1]}\n")
    return rows


async def _fill(url: str, start: int, end: int) -> None:
    """Record completions and put a vote on each, as the store does, without its waiting."""
    recorded = await noted(Store(NOTING, FeedbackSettings()).completions.record(_model()))
    voted = await noted_vote(5_000_000, "up", Person(OWNER, MODEL_USER.decode()))
    packed = b"".join(_packed(*call) for call in (recorded, voted))
    async with Redis.from_url(url) as redis:
        # No fsync, and no rewriting of the file, while the records are put in.
        await redis.config_set("appendfsync", "no", auto_aof_rewrite_percentage=0)
        for name, *_ in (recorded, voted):
            await redis.script_load(client.source(name))
        connection = UnixDomainSocketConnection(**redis.connection_pool.connection_kwargs)
        for first in range(start, end, PIECE):
            numbers = range(first, min(first + PIECE, end))
            await connection.send_packed_command(b"".join(_renamed(packed, n) for n in numbers))
            for _ in range(2 * len(numbers)):
                await connection.read_response()
        await connection.disconnect()
        await redis.config_set("appendfsync", "always")


def _model() -> Any:
    short = completion(5_000_000, tokens=4)
    return replace(short, person=Person(OWNER, MODEL_USER.decode()))


def _packed(name: str, names: list[str], args: list[Any]) -> bytes:
    sha = hashlib.sha1(client.source(name).encode(), usedforsecurity=False).hexdigest()
    words: Any = ("EVALSHA", sha, len(names), *names, *args)
    return hiredis.pack_command(words)


def _renamed(packed: bytes, number: int) -> bytes:
    own_id, user = b"bench-%07d" % number, b"person-%03d" % (number % PEOPLE)
    return packed.replace(MODEL_ID, own_id).replace(MODEL_USER, user)


async def _times(url: str) -> dict[str, float]:
    """Time each call in turns. A claim's run is forgotten, so that the next one may be claimed."""
    look, claim, vote = [], [], []
    store = Store.connect(url, FeedbackSettings())
    async with Redis.from_url(url) as redis:
        for number in range(REPEATS):
            waiting, took = await _timed(store.votes.waiting(BATCH, turns=BATCH))
            look.append(took)
            frozen = [FrozenVote(v.completion_id, v.revision, v.score) for v in waiting[:BATCH]]
            run, took = await _timed(
                store.runs.claim(frozen, parent="base", min_votes=1, now=time.time())
            )
            if run is None:
                raise AssertionError("Nothing was claimed.")
            claim.append(took)
            await redis.delete(keys.OPEN_RUN, keys.LEASE)
            person = Person(OWNER, f"person-{900 + number}")
            put = store.votes.put(
                f"bench-{900 + number:07}", person, Vote(thumb="down"), -1.0, now=time.time()
            )
            vote.append((await _timed(put))[1])
    await store.close()
    names = ("look_ms", "claim_ms", "vote_ms")
    return {
        name: round(statistics.median(each) * 1000, 2)
        for name, each in zip(names, (look, claim, vote), strict=True)
    }


async def _timed(call: Awaitable[Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = await call
    return found, time.perf_counter() - began
