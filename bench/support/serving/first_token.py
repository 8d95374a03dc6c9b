"""Compares the first token of a second turn with that of a new conversation of its length."""

from __future__ import annotations

import asyncio
import statistics
from typing import TYPE_CHECKING, Any

from bench.support.conversations import Turn, next_turn, opening
from bench.support.questions import read_questions
from bench.support.streams import Connection, Reply, StreamError

if TYPE_CHECKING:
    import argparse

    from bench.support.targets import Target

CHARACTERS = 3200
"""Of the first turn; what people write has about four characters a token."""
LEAST_TOKENS = 512
ANSWER_TOKENS = 64


async def compare(target: Target, options: argparse.Namespace) -> dict[str, Any]:
    """Ask both kinds of question in turns, one at a time; return medians in milliseconds.

    Raises:
        StreamError: A reply failed, or a conversation is shorter than it should be.
    """
    questions = read_questions(options.questions)
    connection = Connection(target.url)
    known: list[Reply] = []
    cold: list[Reply] = []

    async def ask(turns: list[Turn], tokens: int) -> Reply:
        body = {"model": target.model, "messages": turns, "max_tokens": tokens, **target.extra}
        reply = await connection.ask({**body, "temperature": options.temperature})
        if reply.problem or not reply.arrivals:
            raise StreamError(reply.problem or "A reply has no text.")
        return reply

    for number in range(options.pairs):
        turns = opening(questions, CHARACTERS)
        answer = (await ask(turns, ANSWER_TOKENS)).text
        second = next_turn(turns, answer)
        # The other conversation has the same shape; only its beginning is new.
        other = next_turn(opening(questions, CHARACTERS), answer)
        for kind in ("known", "cold") if number % 2 else ("cold", "known"):
            if kind == "known":
                known.append(await ask(second, options.tokens))
            else:
                cold.append(await ask(other, options.tokens))
    connection.close()
    return summarise(known, cold)


def summarise(known: list[Reply], cold: list[Reply]) -> dict[str, Any]:
    """Return the medians, and how many times sooner the known conversation's token comes.

    Raises:
        StreamError: A conversation is shorter than it should be.
    """
    lengths = [r.usage["prompt_tokens"] for r in known + cold if r.usage]
    if min(lengths) < LEAST_TOKENS:
        raise StreamError(f"A prompt has {min(lengths)} tokens only; raise CHARACTERS.")
    cold_ms, known_ms = (
        [round((r.first_seconds or 0) * 1000, 1) for r in replies] for replies in (cold, known)
    )
    return {
        "pairs": len(known),
        "prompt_tokens": {"least": min(lengths), "most": max(lengths)},
        "cold_ms": cold_ms,
        "second_turn_ms": known_ms,
        "cold_ms_p50": round(statistics.median(cold_ms), 1),
        "second_turn_ms_p50": round(statistics.median(known_ms), 1),
        "cold_over_second_turn": round(statistics.median(cold_ms) / statistics.median(known_ms), 2),
    }


def measure(target: Target, options: argparse.Namespace) -> dict[str, Any]:
    """Run the comparison."""
    return asyncio.run(compare(target, options))
