"""Traces: the reads that lead from a reply to its version and votes, whoever they belong to.

They are for operators. What a user may see is read with the user's name, in ``votes`` and
``completions``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feedback.store import keys
from feedback.store.vote_codec import decode_feedback

if TYPE_CHECKING:
    from feedback.store.client import Client
    from feedback.types import Feedback

_RUNS_AT_ONCE = 50
"""Runs that one script searches: each holds a batch and a report, some ten kilobytes."""


@dataclass(frozen=True, slots=True)
class ReplyTrace:
    """What is left of a reply.

    Attributes:
        version: The version that wrote it; None where only an update run still names it.
        created_at: When it was written, in seconds since the epoch; None once it has expired.
        vote: The vote on it as it is now.
        withdrawn: Whether it had a vote that was withdrawn.
        run: The update run that has the vote as it stands.
    """

    version: str | None
    created_at: float | None = None
    vote: Feedback | None = None
    withdrawn: bool = False
    run: int | None = None


@dataclass(frozen=True, slots=True)
class RunsFound:
    """Runs that learned from a vote, newest first.

    Attributes:
        whole: Whether every run that can have had it was searched.
    """

    numbers: tuple[int, ...]
    whole: bool


class Traces:
    """The traces in one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def reply(self, completion_id: str) -> ReplyTrace:
        """Return what is left of a reply; nothing of an unknown one."""
        if not keys.can_be_vote(completion_id):
            return ReplyTrace(None)
        source, found = await self._client.hashes(
            [keys.completion(completion_id), keys.feedback(completion_id)]
        )
        vote = decode_feedback(completion_id, found, gone=not source) if "vote" in found else None
        return ReplyTrace(
            version=source.get("version") or found.get("made_by"),
            created_at=float(source["created_at"]) if source else None,
            vote=vote,
            withdrawn=found.get("state") == "withdrawn",
            run=int(found["run"]) if "run" in found else None,
        )

    async def runs_with(self, completion_id: str, *, since: float, most: int) -> RunsFound:
        """Return the runs whose batch or practice had a vote on this reply, in bounded pieces.

        Args:
            completion_id: The reply.
            since: When it was written, in seconds since the epoch: earlier runs are left out.
            most: Runs that are searched, at most.
        """
        numbers: list[int] = []
        below = "+inf"
        for _ in range(0, most, _RUNS_AT_ONCE):
            found, below = await self._client.script(
                "runs_with",
                [keys.RUNS],
                [below, _RUNS_AT_ONCE, json.dumps(completion_id), since],
            )
            numbers += map(int, found)
            if below == "":
                return RunsFound(tuple(numbers), whole=True)
        return RunsFound(tuple(numbers), whole=False)
