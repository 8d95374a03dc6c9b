"""Sends ten times as many requests at once as there are rows: who is refused, who is slowed."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from bench.support.load import Window, gaps_within, request_bodies, spread
from bench.support.processes import MemoryWatch, resident_mib
from bench.support.questions import read_questions
from bench.support.streams import Connection, Reply

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bench.support.load import Load
    from bench.support.targets import Target

ROWS = 32
"""Replies that the server decodes at the same time by default."""
REFUSED = 429
USERS = 64
SETTLE_SECONDS = 3.0


def measure(target: Target, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all rows busy, then the burst, then a single question after it."""
    load = target.load(options, ROWS)
    unburdened = target.measure(load)
    before = sum(resident_mib(target.pids()))
    with MemoryWatch(target.pids) as memory:
        began = time.monotonic()
        replies = asyncio.run(burst(load, options.requests))
        lasted = time.monotonic() - began
    time.sleep(SETTLE_SECONDS)
    after = sum(resident_mib(target.pids()))
    (later,) = asyncio.run(burst(load, 1))
    figures = summarise(replies)
    return {
        "requests": len(replies),
        "seconds": round(lasted, 1),
        **figures,
        "unburdened_inter_token_ms": unburdened["inter_token_ms"],
        "inter_token_p99_ratio": ratio(figures["inter_token_ms"], unburdened["inter_token_ms"]),
        "memory_mib": {
            "before": round(before),
            "peak": round(memory.peak_mib),
            "after": round(after),
        },
        "answers_afterwards": not later.problem,
    }


async def burst(load: Load, requests: int) -> list[Reply]:
    """Send all requests at once, each on a connection of its own; return all replies."""
    bodies = request_bodies(load, read_questions(load.prompts))
    (model,) = load.models

    async def one(number: int, body: dict[str, Any]) -> Reply:
        connection = Connection(load.url)
        reply = await connection.ask({"model": model, **body, "user": f"user-{number % USERS}"})
        connection.close()
        return reply

    asked = itertools.islice(bodies, requests)
    return await asyncio.gather(*(one(number, body) for number, body in enumerate(asked)))


def summarise(replies: Sequence[Reply]) -> dict[str, Any]:
    """Return how many were refused and how, and the latencies of the others."""
    admitted = [r for r in replies if not r.problem]
    refused = [r for r in replies if r.status == REFUSED]
    begin = min(r.sent for r in replies)
    # Rows that are still busy at the very end decode in ever smaller batches.
    end = max((r.arrivals[-1] for r in admitted if r.arrivals), default=begin)
    statuses = Counter(str(r.status or "no answer") for r in replies)
    return {
        "statuses": dict(statuses),
        "refused_with_retry_after": sum("retry-after" in r.headers for r in refused),
        "failed_in_the_stream": sum(r.status == 200 and bool(r.problem) for r in replies),
        "first_token_ms": spread([r.first_seconds for r in admitted if r.first_seconds]),
        "inter_token_ms": spread(gaps_within(admitted, Window(begin, end))),
    }


def ratio(burdened: dict[str, float] | None, free: dict[str, float] | None) -> float | None:
    """Return how many times longer the 99th percentile is."""
    return round(burdened["p99"] / free["p99"], 2) if burdened and free and free["p99"] else None
