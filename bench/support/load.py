"""The load client: streams that each ask the next question as soon as they have an answer.

A process of its own, started by the benches with its figures as JSON:

    python -m bench.support.load '{"url": "http://127.0.0.1:8000", "models": ["policy"]}'

Tokens are those that the server counts in ``usage``, dealt out evenly over a reply's pieces of
text; pieces that come within the window count. A reply under way when the window ends is read to
its end, so that the next measurement finds a quiet server.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import resource
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bench.support.paths import ROOT
from bench.support.questions import read_questions
from bench.support.streams import Connection, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DRAIN_SECONDS = 120.0
REFUSED_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask, of whom, and for how long.

    Attributes:
        models: Dealt out over the streams in turn.
        seconds: The window that counts; SIGTERM ends it earlier.
        extra: Further fields of each request.
        prompts: A JSON-lines file; None for the product's own questions.
        seed: Orders the questions.
    """

    url: str
    models: tuple[str, ...]
    streams: int = 1
    seconds: float = 20.0
    warmup: float = 4.0
    tokens: int = 64
    temperature: float = 1.0
    extra: dict[str, Any] = field(default_factory=dict)
    prompts: str | None = None
    seed: int = 0

    def start(self) -> subprocess.Popen[str]:
        """Start the client."""
        command = [sys.executable, "-m", "bench.support.load", json.dumps(asdict(self))]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def run(self) -> dict[str, Any]:
        """Run the client to its end; return its figures."""
        return finished(self.start())


def finished(client: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a client to end; return its figures.

    Raises:
        subprocess.CalledProcessError: It failed; it said why on standard error.
    """
    output, _ = client.communicate()
    if client.returncode:
        raise subprocess.CalledProcessError(client.returncode, client.args)
    figures: dict[str, Any] = json.loads(output)
    return figures


@dataclass(frozen=True, slots=True)
class Window:
    """The time that counts, in ``time.monotonic`` seconds."""

    begin: float
    end: float

    def __contains__(self, moment: float) -> bool:
        return self.begin <= moment < self.end


async def offer(load: Load) -> tuple[list[Reply], Window]:
    """Keep all streams busy until the window ends; return every reply."""
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    questions = read_questions(load.prompts)
    random.Random(load.seed).shuffle(questions)
    bodies = request_bodies(load, questions)
    replies: list[Reply] = []
    begin = time.monotonic() + load.warmup
    models = itertools.islice(itertools.cycle(load.models), load.streams)
    streams = [
        asyncio.create_task(keep_asking(load.url, model, bodies, replies, over)) for model in models
    ]
    try:
        async with asyncio.timeout(load.warmup + load.seconds):
            await over.wait()
    except TimeoutError:
        over.set()
    end = time.monotonic()
    _, late = await asyncio.wait(streams, timeout=DRAIN_SECONDS)
    for stream in late:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    return replies, Window(begin, end)


def request_bodies(load: Load, questions: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield request bodies without a model, one question after the other, for ever."""
    for question in itertools.cycle(questions):
        yield {
            "messages": [{"role": "user", "content": question}],
            "max_tokens": load.tokens,
            "temperature": load.temperature,
            **load.extra,
        }


async def keep_asking(
    url: str,
    model: str,
    bodies: Iterator[dict[str, Any]],
    replies: list[Reply],
    over: asyncio.Event,
) -> None:
    """Be one stream."""
    connection = Connection(url)
    try:
        while not over.is_set():
            reply = Reply(model)
            replies.append(reply)
            await connection.ask({"model": model, **next(bodies)}, reply)
            if reply.problem:
                await asyncio.sleep(REFUSED_SECONDS)
    finally:
        connection.close()


def summarise(replies: Sequence[Reply], window: Window) -> dict[str, Any]:
    """Return the figures of the window.

    Raises:
        ValueError: It ended before it began.
    """
    seconds = window.end - window.begin
    if seconds <= 0:
        raise ValueError("The load was ended while it still warmed up.")
    asked = [r for r in replies if r.sent in window]
    firsts = [r.first_seconds for r in asked if r.first_seconds is not None]
    whole = [r.usage["completion_tokens"] for r in asked if r.usage]
    return {
        "seconds": round(seconds, 2),
        "tokens_per_second": round(tokens_within(replies, window) / seconds, 1),
        "replies": len(asked),
        "reply_tokens_mean": round(statistics.fmean(whole), 1) if whole else None,
        "first_token_ms": spread(firsts),
        "inter_token_ms": spread(gaps_within(replies, window)),
        "errors": sum(bool(r.problem) for r in asked),
        "first_error": next((r.problem for r in asked if r.problem), None),
    }


def tokens_within(replies: Sequence[Reply], window: Window) -> float:
    """Return how many tokens came within the window; a cut-off reply counts its pieces of text."""
    total = 0.0
    for reply in replies:
        pieces = sum(moment in window for moment in reply.arrivals)
        usage = reply.usage if pieces else None
        total += pieces * usage["completion_tokens"] / len(reply.arrivals) if usage else pieces
    return total


def gaps_within(replies: Sequence[Reply], window: Window) -> list[float]:
    """Return the seconds between the pieces of each reply that came within the window."""
    return [
        later - earlier
        for reply in replies
        for earlier, later in itertools.pairwise(reply.arrivals)
        if earlier in window and later in window
    ]


def spread(seconds: Sequence[float]) -> dict[str, float] | None:
    """Return median, 99th percentile and maximum in milliseconds; None of fewer than two."""
    if len(seconds) < 2:
        return None
    hundredths = statistics.quantiles(seconds, n=100, method="inclusive")
    chosen = {"p50": hundredths[49], "p99": hundredths[98], "max": max(seconds)}
    return {name: round(value * 1000, 1) for name, value in chosen.items()}


def main() -> int:
    """Run the client; print its figures, its own share of a core among them."""
    load = Load(**json.loads(sys.argv[1]))
    began = time.monotonic()
    replies, window = asyncio.run(offer(load))
    lasted = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    share = (used.ru_utime + used.ru_stime) / lasted
    figures = summarise(replies, window) | {"client_cpu": round(share, 3)}
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
