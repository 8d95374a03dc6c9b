"""The servers that `bench.votes` measures, each a process of its own.

    python -m bench.support.votes.servers ours    # the service, without a model
    python -m bench.support.votes.servers bare    # a route that does nothing
    python -m bench.support.votes.servers redis '{...}'   # the vote's script alone

Where they listen and find Redis are settings in the environment, as for `thumbloop api`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import sys
import time

import uvloop
from fastapi import FastAPI
from redis.asyncio import Redis

from bench.support.votes.calls import noted_vote
from bench.support.votes.load import THUMBS, VoteLoad, summarise
from feedback.store import client
from service.app.server import run, serve
from service.runtime.lifecycle import Lifecycle
from service.settings import ServiceSettings
from tests.support.generators.fake import FakeGenerator


def ours() -> None:
    """Serve the real application; what decodes is scripted, for no vote asks it anything."""
    serve(ServiceSettings(), FakeGenerator())


def bare() -> None:
    """Serve a route at the same address that does nothing, with the same server's settings."""
    app = FastAPI()

    @app.put("/v1/feedback/{completion_id}")
    async def nothing(completion_id: str) -> dict[str, str]:
        return {"completion_id": completion_id}

    run(app, ServiceSettings(), Lifecycle())


async def raw(load: VoteLoad) -> list[tuple[float, float]]:
    """Put votes with redis-py alone, on as many connections; return their answers."""
    calls = [
        await noted_vote(number, thumb) for thumb in THUMBS for number in range(load.completions)
    ]
    shared = itertools.cycle(calls)
    answers: list[tuple[float, float]] = []
    end = time.perf_counter() + load.warmup + load.seconds

    async def keep_voting() -> None:
        async with Redis.from_url(
            load.url, decode_responses=True, single_connection_client=True
        ) as redis:
            sha = await redis.script_load(client.source(calls[0][0]))
            while (began := time.perf_counter()) < end:
                _, keys, args = next(shared)
                await redis.evalsha(sha, len(keys), *keys, *args)
                answers.append((time.perf_counter(), time.perf_counter() - began))

    await asyncio.gather(*(keep_voting() for _ in range(load.connections)))
    return answers


def redis(load: VoteLoad) -> None:
    """Measure the script alone; print the figures."""
    began = time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answers = runner.run(raw(load))
    end = answers[-1][0]
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = summarise(answers, end - load.seconds, load.seconds) | {
        "refused": 0,
        "client_cpu": round((used.ru_utime + used.ru_stime) / (end - began), 2),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "redis":
        redis(VoteLoad(**json.loads(sys.argv[2])))
    else:
        {"ours": ours, "bare": bare}[sys.argv[1]]()
