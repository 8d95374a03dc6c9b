"""Votes: what each user currently says of each completion, and which votes wait to be learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from feedback.errors import DifferentPromptsError, InvalidVoteError, UnknownCompletionError
from feedback.rewards import DEFAULT_SCALE, reward
from feedback.store import keys
from feedback.store.client import fields
from feedback.store.completions import check_id, unknown
from feedback.store.vote_codec import decode_feedback, decode_vote, encode_vote
from feedback.types import Comparison, CurrentComparison, Feedback, Person, Vote, WaitingVote

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from feedback.rewards import RewardScale
    from feedback.store.client import Client
    from feedback.types import FrozenVote, StaleVote

STATS = ("up", "down", "unscored", "pending", "claimed", "learned", "expired", "discarded")
"""What ``Votes.stats`` counts."""

RETURNED_AT_ONCE = 100
"""Votes after which a script that gives votes back stops, at the end of a run."""


class Votes:
    """The votes of one Redis; each can be read for ``ttl`` after its last change."""

    def __init__(self, client: Client, ttl: timedelta) -> None:
        self._client = client
        self._ttl_ms = round(ttl.total_seconds() * 1000)

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
        flat = await self._client.durable_script(
            "vote_put",
            _keys(completion_id),
            [
                completion_id,
                person.owner,
                person.user,
                *encode_vote(vote, score),
                now,
                self._ttl_ms,
            ],
        )
        if flat is None:
            raise unknown(completion_id)
        return decode_feedback(completion_id, fields(flat), vote=vote)

    async def compare(
        self,
        chosen_id: str,
        rejected_id: str,
        person: Person,
        comment: str | None = None,
        scale: RewardScale = DEFAULT_SCALE,
        *,
        now: float,
    ) -> CurrentComparison:
        """Set a person's choice between two of their completions, as the vote on both.

        Each side is a vote as ``put`` sets it, and is replaced or withdrawn like one; the same
        comparison again changes nothing.

        Raises:
            InvalidVoteError: The two are one and the same.
            DifferentPromptsError: They do not answer the same messages.
            UnknownCompletionError: One of them does not exist, or is someone else's.
        """
        if chosen_id == rejected_id:
            raise InvalidVoteError("A comparison needs two replies; these are one and the same.")
        chosen = Vote(comment=comment, comparison=Comparison("chosen", rejected_id))
        rejected = Vote(comment=comment, comparison=Comparison("rejected", chosen_id))
        votes = (chosen, rejected)
        words = [word for vote in votes for word in encode_vote(vote, reward(vote, scale))]
        outcome, *found = await self._client.durable_script(
            "comparison_put",
            [
                keys.completion(chosen_id),
                keys.completion(rejected_id),
                keys.feedback(chosen_id),
                keys.feedback(rejected_id),
                keys.READY,
                keys.FEEDBACK_LOG,
            ],
            [chosen_id, rejected_id, person.owner, person.user, *words, now, self._ttl_ms],
        )
        if outcome == "unknown":
            raise unknown(found[0])
        if outcome == "prompts":
            raise DifferentPromptsError(
                f"{chosen_id!r} and {rejected_id!r} answer different messages. Compare replies to "
                "the same conversation, such as the choices of one request with `n`."
            )
        return CurrentComparison(
            decode_feedback(chosen_id, fields(found[0])),
            decode_feedback(rejected_id, fields(found[1])),
        )

    async def get(self, completion_id: str, person: Person) -> Feedback:
        """Return a person's vote on a completion, which may have expired since.

        Raises:
            UnknownCompletionError: There is no such completion, it is someone else's, or it has
                no vote; only in the last case the message says so.
        """
        check_id(completion_id)
        source, found = await self._client.hashes(
            [keys.completion(completion_id), keys.feedback(completion_id)]
        )
        if not _belongs(found if "owner" in found else source, person):
            raise unknown(completion_id)
        if "vote" not in found:
            raise _no_vote(completion_id)
        return decode_feedback(completion_id, found, gone=not source)

    async def get_comparison(self, chosen_id: str, person: Person) -> CurrentComparison:
        """Return a person's comparison by its chosen side.

        Raises:
            UnknownCompletionError: There is no such completion, it is someone else's, or what is
                said of it now is not that it was chosen.
        """
        chosen = await self.get(chosen_id, person)
        comparison = chosen.vote.comparison
        if comparison is None or comparison.side != "chosen":
            raise _no_comparison(chosen_id)
        try:
            return CurrentComparison(chosen, await self.get(comparison.other, person))
        except UnknownCompletionError:
            return CurrentComparison(chosen, None)

    async def withdraw(self, completion_id: str, person: Person, *, now: float) -> None:
        """Take a person's vote back.

        Raises:
            UnknownCompletionError: As for ``get``.
        """
        check_id(completion_id)
        outcome = await self._client.durable_script(
            "vote_withdraw", _keys(completion_id), [completion_id, person.owner, person.user, now]
        )
        if outcome == "unknown":
            raise unknown(completion_id)
        if outcome == "none":
            raise _no_vote(completion_id)

    async def withdraw_comparison(self, chosen_id: str, person: Person, *, now: float) -> None:
        """Take a comparison back on both sides; a side that was replaced since keeps its vote.

        Raises:
            UnknownCompletionError: As for ``get_comparison``.
        """
        check_id(chosen_id)
        outcome = await self._client.durable_script(
            "comparison_withdraw",
            [keys.feedback(chosen_id)],
            [chosen_id, person.owner, person.user, now],
        )
        if outcome == "unknown":
            raise unknown(chosen_id)
        if outcome == "none":
            raise _no_comparison(chosen_id)

    async def waiting(
        self, limit: int, *, order: Literal["oldest", "newest"] = "oldest", turns: int = 0
    ) -> list[WaitingVote]:
        """Return some of the votes that no run has claimed; what has expired is dropped.

        However many wait, no more are read than are asked for.

        Args:
            limit: The most by age.
            order: Which end of them is read, and comes first.
            turns: The most besides them by turn: every user's first vote before anyone's second, so
                that one user's many votes do not hide everybody else's.
        """
        rows = await self._client.script(
            "votes_waiting", [keys.READY, keys.TURNS], [limit, order, turns]
        )
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

    async def return_rolled_back(self) -> int:
        """Give back votes that versions learned which were rolled back since: a bounded piece.

        Returns:
            Runs whose votes were given back; 0 where nothing is left.
        """
        words = [RETURNED_AT_ONCE]
        return int(await self._client.durable_script("votes_return", [keys.RETURNING], words))

    async def expire(self, limit: int, now: float) -> int:
        """End the wait of votes whose completions have expired; a bounded piece of them.

        Args:
            limit: The most to read.
            now: Seconds since the epoch.

        Returns:
            How many have expired now; 0 when none is left.
        """
        return int(
            await self._client.script("votes_expire", [keys.EXPIRING, keys.READY], [limit, now])
        )

    async def discard(self, votes: Sequence[StaleVote]) -> int:
        """Discard waiting votes with their reasons; returns how many were still current."""
        if not votes:
            return 0
        words = [
            word for vote in votes for word in (vote.completion_id, vote.revision, vote.reason)
        ]
        return int(await self._client.script("votes_discard", [keys.READY], words))

    async def still_learned(self, votes: Sequence[FrozenVote]) -> list[bool]:
        """Return for each vote whether it stands as it was learned: not changed, not withdrawn."""
        found = await self._client.hashes([keys.feedback(v.completion_id) for v in votes])
        return [
            now.get("state") == "learned" and now.get("scored") == str(vote.revision)
            for vote, now in zip(votes, found, strict=True)
        ]

    async def corrections(self, votes: Sequence[FrozenVote]) -> list[str | None]:
        """Return the corrections to votes that a run has claimed, as they are now.

        None where they wrote nothing, or have since withdrawn the vote or taken another side.
        """
        found = await self._client.hashes([keys.feedback(v.completion_id) for v in votes])
        return [
            decode_vote(now["vote"]).correction
            if now.get("state") == "claimed" and now.get("scored") == str(vote.revision)
            else None
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


def _belongs(found: dict[str, str], person: Person) -> bool:
    """Whether a completion or a vote is this person's."""
    return bool(found) and Person(found["owner"], found["user"]) == person


def _no_comparison(completion_id: str) -> UnknownCompletionError:
    return UnknownCompletionError(
        f"You have no comparison in which {completion_id!r} is the chosen one. Another vote may "
        "have replaced it: GET /v1/feedback shows the vote on each side, DELETE there withdraws it."
    )


def _no_vote(completion_id: str) -> UnknownCompletionError:
    return UnknownCompletionError(
        f"You have no vote on completion {completion_id!r}. Send one with PUT first."
    )
