"""Starts what `bench.votes` measures: Redis with completions in it, the service, a bare route."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from redis import ConnectionError as RedisConnectionError
from redis import Redis

from bench.support.load import finished
from bench.support.paths import ROOT
from bench.support.processes import cpu_seconds
from feedback.settings import FeedbackSettings
from feedback.store import EmbeddedRedis, Store
from feedback.types import Completion, Person
from models.types import Message, Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.support.votes.load import VoteLoad

SERVERS = (sys.executable, "-m", "bench.support.votes.servers")
START_SECONDS = 30.0
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured.

    Attributes:
        key: An API key for its requests; empty where it asks for none.
        pids: The processes at work, by name.
    """

    url: str
    pids: Mapping[str, int]
    key: str = ""

    def measure(self, load: VoteLoad) -> dict[str, Any]:
        """Put a load on it; return the client's figures and how busy each process was, in cores."""
        before = {name: cpu_seconds([pid]) for name, pid in self.pids.items()}
        began = time.perf_counter()
        figures = self.run(load)
        lasted = time.perf_counter() - began
        cores = {
            name: round((cpu_seconds([pid]) - before[name]) / lasted, 2)
            for name, pid in self.pids.items()
        }
        return figures | {"cores": cores | {"client": figures.pop("client_cpu")}}

    def run(self, load: VoteLoad) -> dict[str, Any]:
        """Run the client to its end."""
        return load.run()


@dataclass(frozen=True, slots=True)
class RedisAlone(Subject):
    """The vote's script, called with redis-py and nothing else."""

    def run(self, load: VoteLoad) -> dict[str, Any]:
        """Run the client to its end."""
        command = [*SERVERS, "redis", load.as_json()]
        return finished(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))


@contextlib.contextmanager
def redis_server(folder: Path, binary: Path | None = None) -> Iterator[tuple[str, int]]:
    """Run a Redis with the embedded one's settings; give its URL and its process id."""
    redis = EmbeddedRedis(folder)
    command = redis.command()
    command[0] = str(binary or command[0])
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for_redis(redis.url)
            yield redis.url, process.pid
        finally:
            process.terminate()


@contextlib.contextmanager
def rig(completions: int, binary: Path | None) -> Iterator[dict[str, Subject]]:
    """Run all that is measured, with completions ``bench-0`` to that number recorded."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="thumbloop-votes-")))
        open_redis, open_pid = stack.enter_context(redis_server(folder / "open", binary))
        keyed_redis, keyed_pid = stack.enter_context(redis_server(folder / "keyed", binary))
        asyncio.run(_fill(open_redis, completions, keyed=False))
        key = asyncio.run(_fill(keyed_redis, completions, keyed=True))
        bare = stack.enter_context(_server("bare", 8801, folder / "open"))
        ours = stack.enter_context(_server("ours", 8802, folder / "open"))
        keyed = stack.enter_context(_server("ours", 8803, folder / "keyed"))
        yield {
            "bare": Subject("http://127.0.0.1:8801", {"server": bare}),
            "redis": RedisAlone(open_redis, {"redis": open_pid}),
            "ours": Subject("http://127.0.0.1:8802", {"server": ours, "redis": open_pid}),
            "ours, with a key": Subject(
                "http://127.0.0.1:8803", {"server": keyed, "redis": keyed_pid}, key
            ),
        }


def completion(number: int, owner: str = "open", tokens: int = 48) -> Completion:
    """Return a reply of so many tokens, of ordinary words and uneven log-probs."""
    text = " ".join(f"word{i % 7}" for i in range(tokens * 3 // 4))
    return Completion(
        id=f"bench-{number}",
        person=Person(owner, ""),
        conversation=f"conversation-{number}",
        version="base",
        messages=(Message("user", "What should I cook tonight with two eggs and rice?"),),
        text=text,
        prompt_ids=tuple(1000 + i * 37 for i in range(30)),
        response_ids=tuple(2000 + i * 61 % 40_000 for i in range(tokens)),
        behaviour_logprobs=tuple(_float32(-0.01 - (i * 0.37) % 5) for i in range(tokens)),
        sampling=Sampling(),
        finish_reason="stop",
        created_at=time.time(),
    )


def _float32(value: float) -> float:
    """Return a number as an engine gives it: a float32, printed with all digits of a double."""
    narrow: float = struct.unpack("f", struct.pack("f", value))[0]
    return narrow


async def _fill(url: str, completions: int, *, keyed: bool) -> str:
    """Record completions, and make a key that owns them where one is asked for; return it."""
    store = Store.connect(url, FeedbackSettings())
    try:
        owner, key = "open", ""
        if keyed:
            made, key = await store.keys.create("bench", frozenset({"chat"}), now=time.time())
            owner = made.public_id
        for start in range(0, completions, AT_ONCE):
            await asyncio.gather(
                *(
                    store.completions.record(completion(number, owner))
                    for number in range(start, min(start + AT_ONCE, completions))
                )
            )
        return key
    finally:
        await store.close()


def _wait_for_redis(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    with Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
            except RedisConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return


@contextlib.contextmanager
def _server(kind: str, port: int, data_dir: Path) -> Iterator[int]:
    others = {k: v for k, v in os.environ.items() if not k.startswith("THUMBLOOP_")}
    ours = {"THUMBLOOP_PORT": str(port), "THUMBLOOP_DATA_DIR": str(data_dir)}
    with subprocess.Popen(
        [*SERVERS, kind], cwd=ROOT, env=others | ours, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/readyz", process)
            yield process.pid
        finally:
            process.terminate()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server says that it is ready; the bare one, that it knows no such page."""
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if client.get(url).status_code in {200, 404}:
                    return
            time.sleep(0.1)
    raise RuntimeError(f"{url} did not answer; run `{' '.join(map(str, process.args))}` by hand.")
