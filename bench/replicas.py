"""Changes the live version over several API replicas under load, and checks every reply.

Streams chat on every replica while an operator activates and rolls back through the API of one
replica after the other, and waits each time until all replicas have it. After each wait every
replica is asked at once: its reply has to be the new version's. At the end the quiet replicas are
asked for each version's own replies, greedily: every streamed reply has to be word for word that
of the one version that it names.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from bench.support.adapters import publish_adapters, register
from bench.support.fleet import Fleet
from bench.support.machine import describe, write_results
from bench.support.own_server import REPLY_SECONDS, share_base
from bench.support.progress import overwrite, say
from bench.support.traffic import PROMPTS, Traffic, ask, chat_on, pinned
from feedback.settings import FeedbackSettings
from feedback.store import Store
from models.types import BASE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.support.traffic import Reply

KINDS = ("activate", "activate", "rollback", "rollback")
WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the rollout.

    Attributes:
        kind: ``activate`` or ``rollback``.
        version: What was live then.
        began: When it was asked for, in ``time.monotonic`` seconds.
        seconds: From the request to the answer that all have it.
        settled_seconds: Of these, from the change to the last replica.
        all: Whether all had it in time.
        late: Replicas that, asked after that, replied with another version.
    """

    kind: str
    version: str
    began: float
    seconds: float
    settled_seconds: float
    all: bool
    late: int


async def change(
    https: Sequence[httpx.AsyncClient], number: int, versions: Sequence[str]
) -> Change:
    """Activate the next version, or roll back, through one of the replicas."""
    kind = KINDS[number % len(KINDS)]
    body: dict[str, Any] = {"why": "bench", "wait": WAIT_SECONDS}
    if kind == "activate":
        turn = number // len(KINDS) * KINDS.count("activate") + number % len(KINDS)
        body["version"] = versions[turn % len(versions)]
    began = time.monotonic()
    answer = await https[number % len(https)].post(f"/admin/rollout/{kind}", json=body)
    seconds = time.monotonic() - began
    if not answer.is_success:
        raise ValueError(answer.text)
    found = answer.json()
    first = await asyncio.gather(*(ask(http, "policy", PROMPTS[0], 1) for http in https))
    late = sum(reply.label != found["live"] for reply in first)
    settled = found["settled"]
    return Change(kind, found["live"], began, seconds, settled["seconds"], settled["all"], late)


async def measure(
    fleet: Fleet, versions: Sequence[str], options: argparse.Namespace
) -> dict[str, Any]:
    """Run the streams and the changes, then compare with the quiet replicas."""
    dice = random.Random(0)
    traffic, stop = Traffic(), asyncio.Event()
    changes: list[Change] = []
    https = [
        httpx.AsyncClient(base_url=url, timeout=REPLY_SECONDS, trust_env=False)
        for url in fleet.urls
    ]
    began = time.monotonic()
    streams = [
        asyncio.create_task(chat_on(https[i % len(https)], traffic, stop, options.tokens, i))
        for i in range(options.streams)
    ]
    async with traffic.news, asyncio.timeout(REPLY_SECONDS):
        await traffic.news.wait_for(lambda: len(traffic.replies) >= options.streams)
    for number in range(options.changes):
        changes.append(await change(https, number, versions))
        last = changes[-1]
        overwrite(
            f"{number + 1}/{options.changes}: {last.kind} {last.version} {last.seconds:.2f} s   "
        )
        await asyncio.sleep(dice.uniform(0, options.pause))
    stop.set()
    await asyncio.gather(*streams)
    seconds = time.monotonic() - began
    say("\nasking the quiet replicas for each version's own replies …")
    own = await own_replies(https, versions, options.tokens)
    for http in https:
        await http.aclose()
    return summarise(traffic, changes, own) | {"seconds": round(seconds, 1)}


async def own_replies(
    https: Sequence[httpx.AsyncClient], versions: Sequence[str], tokens: int
) -> dict[tuple[str, str], str]:
    """Return each version's greedy reply to each prompt, each asked of another replica."""
    pairs = [(version, prompt) for version in [*versions, BASE] for prompt in PROMPTS]
    return {
        (version, prompt): (
            await ask(https[number % len(https)], pinned(version), prompt, tokens)
        ).text
        for number, (version, prompt) in enumerate(pairs)
    }


def summarise(
    traffic: Traffic, changes: Sequence[Change], own: dict[tuple[str, str], str]
) -> dict[str, Any]:
    """Count what went wrong, and say how long it took until all had a change."""
    labelled = [reply for reply in traffic.replies if reply.label is not None]
    unlike = [reply for reply in labelled if own[str(reply.label), reply.prompt] != reply.text]
    return {
        "changes": len(changes),
        "activations": sum(change.kind == "activate" for change in changes),
        "rollbacks": sum(change.kind == "rollback" for change in changes),
        "failed_changes": sum(not change.all for change in changes),
        "late_replicas": sum(change.late for change in changes),
        "replies": len(traffic.replies),
        "replies_across_changes": across(traffic.replies, changes),
        "versions_that_spoke": len({reply.label for reply in labelled}),
        # A reply by the wrong version shows only where the versions' own replies differ.
        "distinct_own_replies": len(set(own.values())),
        "own_replies": len(own),
        "failed_replies": len(traffic.errors),
        "mixed_replies": len(traffic.replies) - len(labelled) + len(unlike),
        "seconds_to_all": quantiles([change.settled_seconds for change in changes]),
        "seconds_with_check_and_change": quantiles([change.seconds for change in changes]),
        "first_errors": traffic.errors[:5],
        "first_unlike": [[reply.label, reply.prompt, reply.text] for reply in unlike[:5]],
    }


def across(replies: Sequence[Reply], changes: Sequence[Change]) -> int:
    """Return how many replies were under way while a change was."""
    spans = [(change.began, change.began + change.seconds) for change in changes]
    return sum(
        any(reply.asked < end and reply.times[-1] > begin for begin, end in spans)
        for reply in replies
    )


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, 99th percentile and maximum, in seconds."""
    hundredths = statistics.quantiles(seconds, n=100, method="inclusive")
    named = {"p50": hundredths[49], "p99": hundredths[98], "max": max(seconds)}
    return {name: round(value, 3) for name, value in named.items()}


async def prepare(fleet: Fleet, manifests: Sequence[Any], *, doorbell: bool) -> None:
    """Enter the versions; without a doorbell, take away from Redis's users what it rings with."""
    store = Store.connect(fleet.redis.url, FeedbackSettings())
    await register(store, manifests)
    if not doorbell:
        await store._client.command("ACL SETUSER", "default", "-xread")  # noqa: SLF001
    await store.close()


def main() -> int:
    """Run the bench; the exit code is 0 only if nothing failed and nothing mixed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--changes", type=int, default=200, help="activations and rollbacks")
    parser.add_argument("--streams", type=int, default=9, help="over all replicas")
    parser.add_argument("--tokens", type=int, default=16, help="tokens of a reply")
    parser.add_argument("--pause", type=float, default=0.5, help="most seconds between changes")
    parser.add_argument("--adapters", type=int, default=4, help="versions beside the base")
    parser.add_argument(
        "--no-doorbell", action="store_true", help="replicas only look now and then"
    )
    parser.add_argument("--name", default="replicas", help="of the file with the results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thumbloop-replicas-") as folder:
        data_dir = Path(folder) / "data"
        share_base(data_dir)
        overwrite("publishing random adapters …")
        manifests = publish_adapters(data_dir, options.adapters)
        fleet = Fleet(data_dir, options.replicas, engine_threads="1")
        overwrite("starting the replicas …       ")
        with fleet.running():
            asyncio.run(prepare(fleet, manifests, doorbell=not options.no_doorbell))
            versions = [manifest.version for manifest in manifests]
            figures = asyncio.run(measure(fleet, versions, options))
    write_results(options.name, {"machine": describe(), "options": vars(options), **figures})
    bad = ("failed_changes", "late_replicas", "failed_replies", "mixed_replies")
    return int(any(figures[name] for name in bad))


if __name__ == "__main__":
    sys.exit(main())
