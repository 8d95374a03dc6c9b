"""Swaps the live version again and again under concurrent streams, and checks every reply.

Starts a server of its own with a few random adapters. While the streams chat, it activates one
version after the other. It then asks the quiet server for each version's own greedy replies, pinned
by ``policy@<version>``, and compares: with the native runner a reply does not depend on what else
is decoded in the same batch. Gaps between the chunks of running streams tell what a swap costs
them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from bisect import bisect
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from machine import describe, write_results
from own_server import REPLY_SECONDS, Server

from feedback.settings import FeedbackSettings
from feedback.store import Store, embedded_url
from models.adapters import AdapterStore, Manifest, Origin
from models.settings import LearnerSettings
from models.types import BASE

if TYPE_CHECKING:
    from collections.abc import Sequence

PROMPTS = (
    "How do I make a cup of tea?",
    "Why is the sky blue?",
    "Tell me about cats.",
    "What should I read next?",
)
NOISE = 0.05
"""Standard deviation of the random adapters' B: enough to change replies, too little to ruin."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One streamed reply; times are ``time.monotonic`` seconds."""

    prompt: str
    header: str
    fingerprints: frozenset[str]
    text: str
    asked: float
    times: tuple[float, ...]

    @property
    def began(self) -> float:
        """When its first chunk came."""
        return self.times[0]

    @property
    def label(self) -> str | None:
        """The one version that all of it names, if it does."""
        named = self.fingerprints | {self.header}
        return next(iter(named)) if len(named) == 1 else None


@dataclass(slots=True)
class Traffic:
    """What the streams saw."""

    replies: list[Reply] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)


def publish_adapters(
    data_dir: Path, count: int, *, noise: float = NOISE, **options: Any
) -> list[Manifest]:
    """Publish random adapters for the packaged base, or for the one that ``options`` name.

    Args:
        data_dir: The data folder.
        count: How many.
        noise: Standard deviation of their B.
        options: Further settings of the learner, by name.
    """
    import torch  # noqa: PLC0415 - seconds, and only here

    from models.base.loading import load_base  # noqa: PLC0415
    from models.policy.policy import Policy  # noqa: PLC0415

    settings = LearnerSettings(data_dir=data_dir, dtype="float32", **options)
    base = load_base(settings)
    policy = Policy(base, settings)
    store = AdapterStore(settings.adapters_dir)
    manifests = []
    for number in range(1, count + 1):
        policy.reset(number)
        dice = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for name, weight in policy.master.items():
                if ".lora_B." in name:
                    weight.normal_(std=noise, generator=dice)
        origin = Origin(BASE, None, "", 0, base.name, base.content_hash, time.time())
        manifests.append(store.publish(number, origin, policy.save))
    return manifests


async def register(store: Store, manifests: Sequence[Manifest]) -> None:
    """Enter published adapters in the record, as an operator's import would."""
    for manifest in manifests:
        await store.versions.add(
            manifest.version,
            parent=BASE,
            manifest=manifest.as_dict(),
            state="approved",
            now=time.time(),
        )


async def ask(http: httpx.AsyncClient, model: str, prompt: str, tokens: int) -> Reply:
    """Stream one greedy reply to its end.

    Raises:
        httpx.HTTPError: The server refused or failed.
        ValueError: The stream holds an error, or ends without its end.
    """
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
    }
    asked = time.monotonic()
    times, text, named, done = [], "", set(), False
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            data = line.removeprefix("data: ")
            if data == line:
                continue
            times.append(time.monotonic())
            if data == "[DONE]":
                done = True
                break
            chunk = json.loads(data)
            if "error" in chunk:
                raise ValueError(chunk["error"]["message"])
            named.add(chunk["system_fingerprint"])
            text += chunk["choices"][0]["delta"].get("content") or ""
        header = response.headers["x-policy-version"]
    if not done:
        raise ValueError("The stream ended before its end.")
    return Reply(prompt, header, frozenset(named), text, asked, tuple(times))


async def chat_on(
    http: httpx.AsyncClient, traffic: Traffic, stop: asyncio.Event, tokens: int, first: int
) -> None:
    """Ask one question after the other until told to stop."""
    turn = first
    while not stop.is_set():
        prompt = PROMPTS[turn % len(PROMPTS)]
        turn += 1
        try:
            reply = await ask(http, "policy", prompt, tokens)
        except Exception as error:  # counted: the bench is about there being none
            traffic.errors.append(repr(error))
            continue
        async with traffic.news:
            traffic.replies.append(reply)
            traffic.news.notify_all()


async def swap(store: Store, traffic: Traffic, version: str) -> tuple[float, float]:
    """Activate a version; return when, and when its first reply began."""
    seen = len(traffic.replies)
    await store.rollout.activate(version, who="bench", why="swap", now=time.time())
    activated = time.monotonic()

    def first() -> Reply | None:
        fresh = traffic.replies[seen:]
        ours = [r for r in fresh if r.label == version and r.asked > activated]
        return min(ours, key=lambda r: r.began, default=None)

    async with traffic.news, asyncio.timeout(REPLY_SECONDS):
        await traffic.news.wait_for(lambda: first() is not None)
    reply = first()
    return activated, reply.began if reply else float("nan")


async def measure(
    server: Server, manifests: Sequence[Manifest], options: argparse.Namespace
) -> dict[str, Any]:
    """Run the traffic and the swaps, then compare with the quiet server."""
    store = Store.connect(embedded_url(server.data_dir), FeedbackSettings())
    await register(store, manifests)
    versions = [m.version for m in manifests] + [BASE]
    dice = random.Random(0)
    traffic, stop = Traffic(), asyncio.Event()
    swaps = []
    async with httpx.AsyncClient(
        base_url=server.url, timeout=REPLY_SECONDS, trust_env=False
    ) as http:
        began = time.monotonic()
        streams = [
            asyncio.create_task(chat_on(http, traffic, stop, options.tokens, i))
            for i in range(options.streams)
        ]
        async with traffic.news:
            await traffic.news.wait_for(lambda: len(traffic.replies) >= options.streams)
        for number in range(options.swaps):
            swaps.append(await swap(store, traffic, versions[number % len(versions)]))
            say(f"swap {number + 1}/{options.swaps}: {swaps[-1][1] - swaps[-1][0]:.2f} s")
            await asyncio.sleep(dice.uniform(0, options.pause))
        stop.set()
        await asyncio.gather(*streams)
        seconds = time.monotonic() - began
        say("\nasking the quiet server for each version's own replies …\n")
        own = {
            (version, prompt): (await ask(http, pinned(version), prompt, options.tokens)).text
            for version in versions
            for prompt in PROMPTS
        }
    await store.close()
    return summarise(traffic, swaps, own) | {"seconds": round(seconds, 1)}


def pinned(version: str) -> str:
    """Return the model name that asks for one version."""
    return BASE if version == BASE else f"policy@{version}"


def summarise(
    traffic: Traffic, swaps: Sequence[tuple[float, float]], own: dict[tuple[str, str], str]
) -> dict[str, Any]:
    """Count what went wrong, and say how long swaps took."""
    latencies = [began - activated for activated, began in swaps]
    one_label = [r for r in traffic.replies if r.label is not None]
    foreign = [r for r in one_label if own[str(r.label), r.prompt] != r.text]
    hundredths = statistics.quantiles(latencies, n=100, method="inclusive")
    return {
        "swaps": len(latencies),
        "replies": len(traffic.replies),
        "versions_that_spoke": len({r.label for r in one_label}),
        # A reply by the wrong version shows only where the versions' own replies differ.
        "distinct_own_replies": len(set(own.values())),
        "own_replies": len(own),
        "errors": len(traffic.errors),
        "replies_with_mixed_labels": len(traffic.replies) - len(one_label),
        "replies_unlike_their_versions": len(foreign),
        "swap_seconds_p50": round(hundredths[49], 2),
        "swap_seconds_p99": round(hundredths[98], 2),
        "swap_seconds_max": round(max(latencies), 2),
        "gap_ms_p99": gaps(traffic.replies, swaps),
        "first_errors": traffic.errors[:5],
        "first_unlike": [[r.label, r.prompt, r.text] for r in foreign[:5]],
    }


def gaps(replies: Sequence[Reply], swaps: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return the 99th percentile of the gaps between a stream's chunks, in milliseconds.

    Gaps that overlap a swap, from its activation to its first reply, are told from all others.
    """
    found: dict[bool, list[float]] = {True: [], False: []}
    starts = [activated for activated, _ in swaps]
    for reply in replies:
        # The last two chunks are the record's and the end's.
        for before, after in pairwise(reply.times[:-2]):
            last = bisect(starts, after) - 1
            found[last >= 0 and before < swaps[last][1]].append(1000 * (after - before))
    return {
        name: round(statistics.quantiles(found[overlaps], n=100, method="inclusive")[98], 1)
        for name, overlaps in (("during_swaps", True), ("between_swaps", False))
        if len(found[overlaps]) > 1
    }


def say(line: str) -> None:
    """Show progress on standard error; swaps overwrite each other."""
    sys.stderr.write(f"\r{line}")
    sys.stderr.flush()


def main() -> int:
    """Run the bench; the exit code is 0 only if every check holds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=16, help="tokens of a reply")
    parser.add_argument("--poll", type=float, default=0.5, help="seconds between looks for news")
    parser.add_argument("--pause", type=float, default=0.5, help="most seconds between swaps")
    parser.add_argument("--adapters", type=int, default=4, help="versions beside the base")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thumbloop-swaps-") as folder:
        server = Server(Path(folder), poll_interval=str(options.poll))
        say("publishing random adapters …")
        manifests = publish_adapters(server.data_dir, options.adapters)
        say("starting the server …       ")
        with server.running():
            figures = asyncio.run(measure(server, manifests, options))
    write_results("swaps", {"machine": describe(), "options": vars(options), **figures})
    bad = ("errors", "replies_with_mixed_labels", "replies_unlike_their_versions")
    return int(any(figures[name] for name in bad))


if __name__ == "__main__":
    sys.exit(main())
