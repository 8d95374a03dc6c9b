"""Chats with a server and votes on its replies, often enough for one update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.support.own_server import Server

VOTES = 16

UPDATE_SECONDS = 900.0

PROMPTS = (
    "How do I make a cup of tea?",
    "Why is the sky blue?",
    "Tell me about cats.",
    "What should I read next?",
    "How do I learn to swim?",
    "What is a good breakfast?",
    "Why do leaves fall?",
    "Explain what a loan is.",
)


def chat(server: Server, number: int, tokens: int) -> dict[str, Any]:
    """Return one reply, as one of eight people asks for it."""
    body = {
        "model": "policy",
        "user": user(number),
        "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}],
        "max_tokens": tokens,
    }
    answer = server.http.post(f"{server.url}/v1/chat/completions", json=body)
    reply: dict[str, Any] = answer.raise_for_status().json()
    return reply


def user(number: int) -> str:
    """Return who asks: eight people, so that none has more than a quarter of a batch."""
    return f"person-{number % 8}"


def vote(server: Server, completion_id: str, number: int, thumb: str) -> None:
    """Cast one vote."""
    body = {"thumb": thumb, "user": user(number)}
    server.http.put(f"{server.url}/v1/feedback/{completion_id}", json=body).raise_for_status()
