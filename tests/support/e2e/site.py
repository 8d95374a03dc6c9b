"""A whole Thumbloop on the real model, and people who chat and vote on it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import openai

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai.types.chat import ChatCompletion

    from bench.support.own_server import Server

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
class WholeSite:
    """A running server, and people who chat and vote through OpenAI's own client."""

    server: Server
    _questions: Iterator[str] = field(default_factory=lambda: itertools.cycle(QUESTIONS))

    def client(self) -> openai.OpenAI:
        http: Any = httpx.Client(trust_env=False, timeout=120)  # typed as that of a fork of httpx
        return openai.OpenAI(
            base_url=f"{self.server.url}/v1",
            api_key="none",
            max_retries=0,
            http_client=http,
        )

    def chat(self, model: str = "policy", **options: Any) -> ChatCompletion:
        with self.client() as client:
            found: ChatCompletion = client.chat.completions.create(
                model=model,
                user="ann",
                max_tokens=TOKENS,
                messages=[{"role": "user", "content": next(self._questions)}],
                **options,
            )
        return found

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


@dataclass(frozen=True)
class LearnedVersion:
    """The first version, the votes behind it and its run."""

    version: str
    completion_ids: tuple[str, ...]
    run: dict[str, Any]
