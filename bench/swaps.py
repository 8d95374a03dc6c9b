"""Swaps the live version again and again under concurrent streams, and checks every reply.

Starts a server of its own with a few random adapters. While the streams chat, it activates one
version after the other. It then asks the quiet server for each version's own greedy replies, pinned
by ``policy@<version>``, and compares: with the native runner a reply does not depend on what else
is decoded in the same batch. Gaps between the chunks of running streams show what a swap costs
them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from bisect import bisect
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from bench.support.adapters import publish_adapters, register
from bench.support.machine import describe, write_results
from bench.support.own_server import REPLY_SECONDS, Server
from bench.support.progress import overwrite, say
from bench.support.traffic import PROMPTS, Reply, Traffic, ask, chat_on, pinned
from feedback.settings import FeedbackSettings
from feedback.store import Store, embedded_url
from feedback.types import Audit
from models.types import BASE
from models.versions import Activate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.adapters import Manifest


async def swap(store: Store, traffic: Traffic, version: str) -> tuple[float, float]:
    """Activate a version; return when, and when its first reply began."""
    seen = len(traffic.replies)
    await store.rollout.do(Activate(version), Audit("bench", "swap", time.time()))
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
            overwrite(f"swap {number + 1}/{options.swaps}: {swaps[-1][1] - swaps[-1][0]:.2f} s")
            await asyncio.sleep(dice.uniform(0, options.pause))
        stop.set()
        await asyncio.gather(*streams)
        seconds = time.monotonic() - began
        say("\nasking the quiet server for each version's own replies …")
        own = {
            (version, prompt): (await ask(http, pinned(version), prompt, options.tokens)).text
            for version in versions
            for prompt in PROMPTS
        }
    await store.close()
    return summarise(traffic, swaps, own) | {"seconds": round(seconds, 1)}


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

    Gaps that overlap a swap, from its activation to its first reply, are counted apart from others.
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
        overwrite("publishing random adapters …")
        manifests = publish_adapters(server.data_dir, options.adapters)
        overwrite("starting the server …       ")
        with server.running():
            figures = asyncio.run(measure(server, manifests, options))
    write_results("swaps", {"machine": describe(), "options": vars(options), **figures})
    bad = ("errors", "replies_with_mixed_labels", "replies_unlike_their_versions")
    return int(any(figures[name] for name in bad))


if __name__ == "__main__":
    sys.exit(main())
