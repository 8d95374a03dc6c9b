"""Votes of every kind, as records and in a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from feedback.rewards import reward
from feedback.types import Completion, Person, Vote
from feedback.vote_record import VoteRecord
from models.types import Message, Sampling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from feedback.store import Store

ANN = Person("k1", "ann")


def make_completion(number: int, **changes: Any) -> Completion:
    fields: dict[str, Any] = {
        "id": f"chatcmpl-{number}",
        "person": ANN,
        "conversation": "conv-1",
        "version": "base",
        "messages": (Message("system", "Be kind."), Message("user", f"Question {number % 7}")),
        "text": f"Grüße {number}\n\u2028 {{}} \U0001f642",
        "prompt_ids": (1, 2, number),
        "response_ids": (4, 5),
        "behaviour_logprobs": (-0.1, -2.33333333),
        "sampling": Sampling(temperature=0.7, stop=("\n",), seed=3, top_k=5),
        "finish_reason": "stop",
        "created_at": 1000.5 + number,
        "metadata": {"page": "1"},
    }
    return Completion(**{**fields, **changes})


@pytest.fixture
def completion() -> Callable[..., Completion]:
    return make_completion


@pytest.fixture
def record() -> Callable[..., VoteRecord]:
    """Return a function that makes the record of a vote: ``record(1, thumb="up", text="...")``."""

    def make(number: int, *, state: str = "pending", **fields: Any) -> VoteRecord:
        said = {
            name: fields.pop(name)
            for name in ("thumb", "rating", "comment", "tags", "correction", "comparison")
            if name in fields
        }
        vote = Vote(**said)
        reply = make_completion(number, **fields)
        return VoteRecord(
            id=reply.id,
            state=state,  # type: ignore[arg-type]
            revision=2,
            updated_at=2000.25 + number,
            person=reply.person,
            version=reply.version,
            vote=vote,
            score=reward(vote),
            scored_revision=1,
            voted_at=2000.0 + number,
            completion=reply,
        )

    return make


@pytest.fixture
def voted(store: Store) -> Callable[..., Awaitable[str]]:
    """Record a completion and a vote on it; returns the id."""

    async def make(number: int, vote: Vote | None = None, **changes: Any) -> str:
        reply = make_completion(number, **changes)
        await store.completions.record(reply)
        said = vote or Vote(thumb="up" if number % 3 else "down")
        await store.votes.put(reply.id, reply.person, said, reward(said), now=2000.0 + number)
        return reply.id

    return make
