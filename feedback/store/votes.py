"""Votes: what each user currently says of each completion, and which of it waits to be learned."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from feedback.errors import UnknownCompletionError
from feedback.events import Feedback, Person, Vote, WaitingVote
from feedback.store import keys
from feedback.store.client import fields
from feedback.store.completions import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.events import FrozenVote, VoteState
    from feedback.store.client import Client

STATS = ("up", "down", "unscored", "pending", "claimed", "learned", "expired", "discarded")
"""What ``Votes.stats`` counts."""


class Votes:
    """The votes of one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def put(
        self, completion_id: str, person: Person, vote: Vote, score: float | None, *, now: float
    ) -> Feedback:
        """Set a person's vote, in place of the old one; the same vote again changes nothing.

        A new score makes the vote ``pending`` again. Another comment, tag or correction with the
        same score raises the revision only: what can be learned from has not changed.

        Args:
            completion_id: The completion that is voted on.
            person: Who votes; the completion must be theirs.
            vote: The whole vote.
            score: The reward that it is worth; None when there is nothing to learn from.
            now: Seconds since the epoch.

        Raises:
            UnknownCompletionError: There is no such completion, or it is someone else's.
        """
        spelled = json.dumps(asdict(vote), sort_keys=True)
        worth = "" if score is None else repr(float(score))
        flat = await self._client.script(
            "vote_put",
            _keys(completion_id),
            [completion_id, person.owner, person.user, spelled, worth, now],
        )
        if flat is None:
            raise unknown(completion_id)
        return _decode(completion_id, fields(flat))

    async def get(self, completion_id: str, person: Person) -> Feedback:
        """Return a person's vote on a completion.

        Raises:
            UnknownCompletionError: There is no such completion, it is someone else's, or it has
                no vote; the message tells the last case from the others.
        """
        source, found = await self._client.hashes(
            [keys.completion(completion_id), keys.feedback(completion_id)]
        )
        if not source or Person(source["owner"], source["user"]) != person:
            raise unknown(completion_id)
        if "vote" not in found:
            raise _no_vote(completion_id)
        return _decode(completion_id, found)

    async def withdraw(self, completion_id: str, person: Person, *, now: float) -> None:
        """Take a person's vote back.

        Raises:
            UnknownCompletionError: As for ``get``.
        """
        outcome = await self._client.script(
            "vote_withdraw", _keys(completion_id), [completion_id, person.owner, person.user, now]
        )
        if outcome == "unknown":
            raise unknown(completion_id)
        if outcome == "none":
            raise _no_vote(completion_id)

    async def waiting(self, limit: int) -> list[WaitingVote]:
        """Return at most ``limit`` of the votes that no run has claimed, oldest first."""
        rows = await self._client.script("votes_waiting", [keys.READY], [limit])
        return [
            WaitingVote(
                completion_id=completion_id,
                revision=int(revision),
                score=float(score),
                person=Person(owner, user),
                version=version,
                voted_at=float(voted_at),
            )
            for completion_id, revision, score, owner, user, version, voted_at in rows
        ]

    async def count_waiting(self) -> int:
        """Return how many votes no run has claimed."""
        return int(await self._client.command("ZCARD", keys.READY))

    async def still_learned(self, votes: Sequence[FrozenVote]) -> list[bool]:
        """Return for each vote whether it stands as it was learned: not changed, not withdrawn."""
        found = await self._client.hashes([keys.feedback(v.completion_id) for v in votes])
        return [
            now.get("state") == "learned" and now.get("scored") == str(vote.revision)
            for vote, now in zip(votes, found, strict=True)
        ]

    async def stats(self) -> dict[str, int]:
        """Return how many votes there are per thumb (or side of the scale) and per state.

        ``unscored`` are comments, tags and corrections alone; they have no other state.
        """
        found = await self._client.hash(keys.TOTALS)
        return {name: int(found.get(name, 0)) for name in STATS}


def _keys(completion_id: str) -> list[str]:
    """Return the keys that a change of a vote touches."""
    return [
        keys.completion(completion_id),
        keys.feedback(completion_id),
        keys.READY,
        keys.FEEDBACK_LOG,
    ]


def _no_vote(completion_id: str) -> UnknownCompletionError:
    return UnknownCompletionError(
        f"You have no vote on completion {completion_id!r}. PUT one, or leave it be."
    )


def _decode(completion_id: str, found: dict[str, str]) -> Feedback:
    vote = json.loads(found["vote"])
    return Feedback(
        completion_id=completion_id,
        vote=Vote(**{**vote, "tags": tuple(vote["tags"])}),
        score=float(found["score"]) if found["score"] else None,
        revision=int(found["revision"]),
        state=cast("VoteState", found["state"]),
        updated_at=float(found["updated_at"]),
        version=found.get("version"),
        reason=found.get("reason"),
    )
