"""Runs the whole of Thumbloop on the real model, as its users start it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from bench.support.own_server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.chat import ChatCompletion

MIN_VOTES = 6
TOKENS = 12
UPDATE_SECONDS = 180.0
QUESTIONS = (
    "How do I boil an egg?",
    "Name a planet.",
    "What is a poem?",
    "Why is the sky blue?",
    "Say hello.",
    "What do cats eat?",
)


@dataclass
class Site:
    """A running server, and people who chat and vote through OpenAI's own client."""

    server: Server
    _questions: Iterator[str] = field(default_factory=lambda: itertools.cycle(QUESTIONS))

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.server.url}/v1",
            api_key="none",
            max_retries=0,
            http_client=httpx.Client(trust_env=False, timeout=120),
        )

    def chat(self, model: str = "policy", **options: Any) -> ChatCompletion:
        with self.client() as client:
            return client.chat.completions.create(
                model=model,
                user="ann",
                max_tokens=TOKENS,
                messages=[{"role": "user", "content": next(self._questions)}],
                **options,
            )

    def vote(self, completion_id: str, thumb: str) -> Any:
        body = {"thumb": thumb, "user": "ann"}
        with self.client() as client:
            return client.put(f"/feedback/{completion_id}", cast_to=object, body=body)

    def feedback(self, completion_id: str) -> Any:
        return self.server.get(f"/v1/feedback/{completion_id}?user=ann")

    def chat_and_vote(self, count: int) -> list[str]:
        """Return the ids of so many replies, thumbed up and down in turns."""
        ids = [self.chat().id for _ in range(count)]
        for completion_id, thumb in zip(ids, itertools.cycle(("up", "down")), strict=False):
            assert self.vote(completion_id, thumb)["state"] == "pending"
        return ids

    def runs(self) -> Any:
        """Return the update runs, newest first."""
        return self.server.get("/admin/updates")["data"]

    def until_run(self, number: int, *states: str) -> Any:
        """Wait until a run is in one of these states; return it with its batch."""

        def reached() -> Any:
            known = [run for run in self.runs() if run["number"] == number]
            return known and known[0]["state"] in states

        self.server.until(reached, UPDATE_SECONDS, f"run {number} {states}")
        return self.server.get(f"/admin/updates/{number}")

    def until_served(self, version: str) -> None:
        """Wait until new requests are answered by a version."""
        self.server.until(
            lambda: self.server.get("/admin/rollout")["serving"] == version, 20, version
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a ready server that the module's tests share; updates start from six votes."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("These tests find the server's processes by /proc, which only Linux has.")
    server = Server(tmp_path_factory.mktemp("up"), min_votes=str(MIN_VOTES), lease="5")
    with server.running():
        yield Site(server)


@pytest.fixture(scope="module")
def learned(site: Site) -> Learned:
    """Return the first version that was learned, from votes on the base's replies."""
    ids = site.chat_and_vote(MIN_VOTES)
    run = site.until_run(1, "approved", "rejected", "quarantined")
    assert run["state"] == "approved", run["reason"]
    site.until_served(run["version"])
    return Learned(run["version"], tuple(ids), run)


@dataclass(frozen=True)
class Learned:
    """The first version, the votes behind it and its run."""

    version: str
    completion_ids: tuple[str, ...]
    run: dict[str, Any]
