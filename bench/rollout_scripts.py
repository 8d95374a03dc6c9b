"""Measures how long each script of the rollout keeps Redis from serving anybody else.

    python -m bench.rollout_scripts                # 1,000 versions of 64 votes; a minute or two

A chain of versions is learned from votes, one from the other. Then each command is given, and the
whole chain is rolled back to the base. The times are those of Redis (SLOWLOG), without its disk;
`wall` is what the caller waits, with the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from bench.support.machine import describe, write_results
from bench.support.votes.rig import redis_server
from feedback.settings import FeedbackSettings
from feedback.store import Store, client
from feedback.types import Audit, Completion, FrozenVote, Person, Vote
from models.types import Message, Sampling
from models.versions import Activate, PromoteCanary, RecordGateVerdict, Rollback, StartCanary

if TYPE_CHECKING:
    from collections.abc import Awaitable

VOTES = 64
REPEATS = 21
SHORTEST_US = 25
"""Microseconds below which Redis does not log a script."""
OP = Audit("bench", "measured", 2.0)
SCRIPTS = (
    "rollout_read",
    "rollout_write",
    "version_chain",
    "version_add",
    "votes_return",
    "events_of",
    "sequence_next",
)


async def learn(store: Store, number: int) -> str:
    """Make one version of what is live, from fresh votes, and promote it."""
    people = [Person("bench", f"person-{i}") for i in range(VOTES)]
    names = [f"bench-{number}-{i}" for i in range(VOTES)]
    pairs = list(zip(names, people, strict=True))
    await asyncio.gather(*(store.completions.record(_completion(*pair)) for pair in pairs))
    await asyncio.gather(
        *(store.votes.put(*pair, Vote(thumb="up"), 1.0, now=float(number)) for pair in pairs)
    )
    parent = (await store.rollout.get()).live
    batch = [FrozenVote(name, 1, 1.0) for name in names]
    run = await store.runs.claim(batch, parent=parent, min_votes=VOTES, now=1.0)
    if run is None:
        raise RuntimeError("The votes were not claimed: is the data folder fresh?")
    version = f"v{run.number:06d}-0123456789ab"
    await store.runs.commit(run, version=version, manifest={}, report={}, now=1.0)
    await store.runs.finish(run, "approved", figures={"kl": 0.5}, reason=None, now=1.0)
    passed = Audit("learner", f"run {run.number} passed its gate", 1.0, {"kl": 0.5})
    await store.rollout.do(Activate(version, expected_live=parent), passed)
    return version


async def command_all(store: Store, versions: list[str]) -> None:
    """Give each command some times; the live version is the last of the chain again afterwards."""
    last, other = versions[-1], versions[-2]
    rollout = store.rollout
    for number in range(REPEATS):
        await rollout.do(Activate(other), OP)
        await rollout.do(StartCanary(last, 0.1), OP)
        await rollout.do(PromoteCanary(last), OP)
        await rollout.events(100, version=versions[len(versions) // 2])
        await store.versions.lineage(last)
        new = f"v{await store.versions.next_sequence():06d}-0123456789ab"
        await store.versions.add(new, parent=last, manifest={}, state="candidate", now=1.0)
        await rollout.do(RecordGateVerdict(new, "rejected"), Audit("gate", str(number), 1.0))


async def timed(redis: Redis, work: Awaitable[Any]) -> tuple[float, dict[str, list[float]]]:
    """Return the milliseconds of the call, and of each run of each script in it."""
    by_hash = {client._hash(name): name for name in SCRIPTS}  # noqa: SLF001 - how it is sent
    await redis.slowlog_reset()
    began = time.perf_counter()
    await work
    wall = (time.perf_counter() - began) * 1000
    found: dict[str, list[float]] = {}
    for entry in await redis.slowlog_get(10_000):
        words = entry["command"].decode(errors="replace").split(" ", 2)
        name = by_hash.get(words[1]) if words[0] == "EVALSHA" else None
        if name:
            found.setdefault(name, []).append(entry["duration"] / 1000)
    return wall, found


async def measure(url: str, count: int) -> dict[str, Any]:
    """Return medians and maxima in milliseconds."""
    fast = FeedbackSettings(durability="memory")
    store = Store.connect(url, fast)
    async with Redis.from_url(url) as redis:
        await redis.config_set("appendfsync", "no")
        versions = [await learn(store, number) for number in range(count)]
        await store.close()
        await redis.config_set("appendfsync", "always")
        # What scripts call is logged too: they would wait for the logging of each call.
        await redis.config_set("slowlog-log-slower-than", SHORTEST_US)
        await redis.config_set("slowlog-max-len", 20_000)
        store = Store.connect(url, FeedbackSettings())
        _, commands = await timed(redis, command_all(store, versions))
        wall, whole = await timed(redis, store.rollout.do(Rollback("base"), OP))
        waiting = await store.votes.count_waiting()
        sweep, swept = await timed(redis, store.retention.sweep(now=3.0, seconds=60.0))
        all_waiting = await store.votes.count_waiting()
        await store.close()
    return {
        "versions": count,
        "votes_of_each": VOTES,
        "milliseconds": {name: _summary(times) for name, times in sorted(commands.items())},
        "rollback_of_all": {name: _summary(times) for name, times in sorted(whole.items())},
        "rollback_of_all_wall_ms": round(wall, 1),
        "votes_waiting_then": waiting,
        "sweep_of_the_rest": {name: _summary(times) for name, times in sorted(swept.items())},
        "sweep_of_the_rest_wall_ms": round(sweep, 1),
        "votes_waiting_after_it": all_waiting,
    }


def _summary(times: list[float]) -> dict[str, float]:
    return {
        "runs": len(times),
        "median": round(statistics.median(times), 3),
        "most": round(max(times), 3),
    }


def _completion(name: str, person: Person) -> Completion:
    return Completion(
        id=name,
        person=person,
        conversation="",
        version="base",
        messages=(Message("user", "Hi"),),
        text="Hello",
        prompt_ids=(1,),
        response_ids=(2,),
        behaviour_logprobs=(-0.5,),
        sampling=Sampling(),
        finish_reason="stop",
        created_at=1.0,
    )


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--versions", type=int, default=1000)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="thumbloop-rollout-") as folder,
        redis_server(Path(folder), None) as (url, _),
    ):
        figures = asyncio.run(measure(url, options.versions))
    write_results("rollout-scripts", {"machine": describe(), **figures})


if __name__ == "__main__":
    main()
