"""Streams that ask greedy questions without a pause, and note the version that a reply names."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.types import BASE

if TYPE_CHECKING:
    import httpx

PROMPTS = (
    "How do I make a cup of tea?",
    "Why is the sky blue?",
    "Tell me about cats.",
    "What should I read next?",
)


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


def pinned(version: str) -> str:
    """Return the model name that asks for one version."""
    return BASE if version == BASE else f"policy@{version}"
