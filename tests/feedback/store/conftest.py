"""Completions, votes and runs, ready made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from feedback.rewards import reward
from feedback.store.client import Client
from feedback.types import Completion, FrozenVote, Person, Vote
from models.types import Message, Sampling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from feedback.store import Store
    from feedback.types import Run


ANN = Person("k1", "ann")


def _completion(
    completion_id: str, person: Person = ANN, version: str = "base", created_at: float = 1000.5
) -> Completion:
    return Completion(
        id=completion_id,
        person=person,
        conversation="conv-1",
        version=version,
        messages=(Message("user", "Grüß dich: 'x'"), Message("assistant", "y")),
        text="Hello\n\u2028 {}",
        prompt_ids=(1, 2, 3),
        response_ids=(4, 5),
        behaviour_logprobs=(-0.1, -2.33333333),
        sampling=Sampling(temperature=0.7, stop=("\n",), seed=3),
        finish_reason="stop",
        created_at=created_at,
        metadata={"page": "1"},
    )


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    """Return a store's way to the throwaway server, by itself."""
    client = Client(redis_url)
    yield client
    await client.close()


@pytest.fixture
def completion() -> Callable[..., Completion]:
    return _completion


@pytest.fixture
def voted(store: Store) -> Callable[..., Awaitable[list[str]]]:
    """Record completions c0, c1, ... with a vote each: 'u' is up, 'd' is down."""

    async def make(thumbs: str, *, start: int = 0, version: str = "base") -> list[str]:
        ids = [f"c{start + i}" for i in range(len(thumbs))]
        for i, (each, thumb) in enumerate(zip(ids, thumbs, strict=True)):
            await store.completions.record(_completion(each, version=version))
            vote = Vote(thumb="up" if thumb == "u" else "down")
            await store.votes.put(each, ANN, vote, reward(vote), now=2000.0 + start + i)
        return ids

    return make


@pytest.fixture
def claimed(
    store: Store, voted: Callable[..., Awaitable[list[str]]]
) -> Callable[..., Awaitable[Run]]:
    """Vote, and claim all that waits."""

    async def make(thumbs: str = "", *, start: int = 0) -> Run:
        await voted(thumbs, start=start)
        waiting = await store.votes.waiting(100)
        votes = [FrozenVote(vote.completion_id, vote.revision, vote.score) for vote in waiting]
        live = (await store.rollout.get()).live
        run = await store.runs.claim(votes, parent=live, min_votes=1, now=3000.0)
        assert run is not None
        return run

    return make
