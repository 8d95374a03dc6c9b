"""Notes the words that the store would send to Redis for a vote or a completion."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from feedback.rewards import reward
from feedback.settings import FeedbackSettings
from feedback.store import Store
from feedback.types import Person, Vote

if TYPE_CHECKING:
    from collections.abc import Awaitable

OWNER = "open"


class NotedError(Exception):
    """A call that was noted instead of made."""


class Notebook:
    """Stands in for the store's client, so that a script's words are those that the store sends."""

    async def durable_script(self, name: str, keys: list[str], args: list[Any]) -> Any:
        """Note a call."""
        raise NotedError(name, keys, args)

    script = durable_script


NOTING: Any = Notebook()
_STORE = Store(NOTING, FeedbackSettings())


async def noted(call: Awaitable[Any]) -> tuple[str, list[str], list[Any]]:
    """Return the script, the keys and the arguments that a store on ``NOTING`` would have sent."""
    try:
        await call
    except NotedError as found:
        name, keys, args = found.args
        return name, keys, args
    raise AssertionError("The call was made without a script.")


async def noted_vote(
    number: int,
    thumb: Any,
    person: Person = Person(OWNER, ""),  # noqa: B008 - it is frozen
) -> tuple[str, list[str], list[Any]]:
    """Return what one vote sends."""
    vote = Vote(thumb=thumb)
    return await noted(
        _STORE.votes.put(f"bench-{number}", person, vote, reward(vote), now=time.time())
    )
