"""Voted completions, and a workplace with a learner that computes nothing."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from feedback.rewards import reward
from feedback.types import Completion, Person, Vote
from models.types import Message, Sampling
from tests.support.workers.fake_learner import make_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from feedback.store import Store
    from tests.support.workers.fake_learner import FakeLearner
    from workers.resources import UpdateResources


def make_completion(completion_id: str, user: str = "ann", **changes: Any) -> Completion:
    fields: dict[str, Any] = {
        "id": completion_id,
        "person": Person("k1", user),
        "conversation": "c",
        "version": "base",
        "messages": (Message("user", "Hi"),),
        "text": "Hello",
        "prompt_ids": (1, 2),
        "response_ids": (3, 4),
        "behaviour_logprobs": (-0.1, -0.2),
        "sampling": Sampling(),
        "finish_reason": "stop",
        "created_at": 1000.0,
    }
    return Completion(**(fields | changes))


@pytest.fixture
def completion_of() -> Callable[..., Completion]:
    return make_completion


async def _vote_in(
    store: Store, thumbs: str, *, start: int = 0, user: str = "ann", **changes: Any
) -> list[str]:
    ids = [f"c{start + i}" for i in range(len(thumbs))]
    for i, (each, thumb) in enumerate(zip(ids, thumbs, strict=True)):
        completion = make_completion(each, user, **changes)
        await store.completions.record(completion)
        vote = Vote(thumb="up" if thumb == "u" else "down")
        await store.votes.put(each, completion.person, vote, reward(vote), now=2000.0 + start + i)
    return ids


@pytest.fixture
def vote_in() -> Callable[..., Awaitable[list[str]]]:
    """Record completions in a store, with a vote each: 'u' is up, 'd' is down."""
    return _vote_in


@pytest.fixture
def vote_on(store: Store) -> Callable[..., Awaitable[list[str]]]:
    """Do so in the test's own store."""
    return functools.partial(_vote_in, store)


@pytest.fixture
def workplace(store: Store, tmp_path: Path) -> tuple[UpdateResources, FakeLearner]:
    return make_place(store, tmp_path)
