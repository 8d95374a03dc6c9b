"""Measures how long the engine goes on decoding for clients that have left."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from bench.support.conversations import opening
from bench.support.load import spread
from bench.support.questions import read_questions
from bench.support.streams import Connection, Reply

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Sequence

    from bench.support.targets import Target

LONG, SHORT = 6000, 100
"""Characters of a prompt: about 1,500 tokens, a second or more of prefill, and hardly any."""
REPLY_TOKENS = 256
TRIALS = 10
WAIT_SECONDS = 120.0
LOOK_SECONDS = 0.005

_ROWS = re.compile(r"^thumbloop_rows_(?:running|waiting) (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who leaves when.

    Attributes:
        pieces: Pieces of text that each client reads first; 0 = it leaves while prompts are read.
    """

    name: str
    clients: int
    characters: int
    pieces: int


SCENARIOS = (
    Scenario("one, in prefill", clients=1, characters=LONG, pieces=0),
    Scenario("one, while decoding", clients=1, characters=SHORT, pieces=5),
    Scenario("sixteen, most in line for prefill", clients=16, characters=LONG, pieces=0),
    Scenario("sixteen, while decoding", clients=16, characters=SHORT, pieces=5),
)


class Crowd:
    """Clients that ask at the same time and leave at the same time."""

    def __init__(self, target: Target, scenario: Scenario, questions: Sequence[str]) -> None:
        self.replies = [Reply(target.model) for _ in range(scenario.clients)]
        self._pieces = scenario.pieces
        self._tasks = []
        for reply in self.replies:
            turns = opening(questions, scenario.characters)
            body = {"model": target.model, "messages": turns, "max_tokens": REPLY_TOKENS}
            asking = Connection(target.url).ask({**body, **target.extra}, reply)
            self._tasks.append(asyncio.create_task(asking))

    def has_read(self) -> bool:
        """Whether each client has what it wants to read before it leaves."""
        return all(r.ended or len(r.arrivals) >= self._pieces for r in self.replies)

    def is_late(self) -> bool:
        """Whether nothing is left to break off."""
        if self._pieces:
            return all(r.ended for r in self.replies)
        return all(r.arrivals for r in self.replies)

    async def leave(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def rows(http: httpx.AsyncClient) -> float:
    """Return how many replies are decoded or wait."""
    text = (await http.get("/metrics")).raise_for_status().text
    return sum(float(value) for value in _ROWS.findall(text))


async def trial(
    http: httpx.AsyncClient, target: Target, scenario: Scenario, questions: Sequence[str]
) -> float | None:
    """Return the seconds from leaving until no row is left; None if it was too late to leave.

    Raises:
        TimeoutError: Rows stayed.
    """

    async def under_way() -> bool:
        return crowd.has_read() and (scenario.pieces > 0 or await rows(http) >= scenario.clients)

    async def is_idle() -> bool:
        return not await rows(http)

    crowd = Crowd(target, scenario, questions)
    await until(under_way)
    late = crowd.is_late()
    left = time.monotonic()
    await crowd.leave()
    await until(is_idle)
    return None if late else time.monotonic() - left


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again until it holds.

    Raises:
        TimeoutError: It did not.
    """
    async with asyncio.timeout(WAIT_SECONDS):
        while not await holds():  # noqa: ASYNC110 - the event is in another process
            await asyncio.sleep(LOOK_SECONDS)


async def trials(target: Target, options: argparse.Namespace) -> dict[str, Any]:
    """Go through all scenarios; time a look at /metrics too: no figure is finer than that."""
    questions = read_questions(options.questions)
    figures: dict[str, Any] = {}
    async with httpx.AsyncClient(base_url=target.url, trust_env=False, timeout=30) as http:
        for scenario in SCENARIOS:
            seconds = [await trial(http, target, scenario, questions) for _ in range(TRIALS)]
            in_time = [value for value in seconds if value is not None]
            figures[scenario.name] = {"trials": len(in_time), "until_idle_ms": spread(in_time)}
        looks = []
        for _ in range(TRIALS):
            began = time.monotonic()
            await rows(http)
            looks.append(time.monotonic() - began)
    return {"scenarios": figures, "one_look_ms": round(statistics.median(looks) * 1000, 1)}


def measure(target: Target, options: argparse.Namespace) -> dict[str, Any]:
    """Run the trials."""
    return asyncio.run(trials(target, options))
