"""What the judge counts of a version: votes by person, and how its replies went."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FIRST_TOKEN_EDGES = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Upper edges in seconds of the buckets of first-token times; one more bucket has the rest."""


def first_token_bucket(seconds: float) -> int:
    """Return the bucket of a time to the first token."""
    return bisect_left(FIRST_TOKEN_EDGES, seconds)


@dataclass(frozen=True, slots=True)
class Replies:
    """How replies went.

    Attributes:
        requests: Replies that ended, well or not; those that the caller gave up are neither.
        errors: Those that failed, or came too late.
        tokens: Tokens of those that did not fail.
        squared_tokens: The sum of the squares of their lengths.
        cut: Those that ended at their longest length.
        first_token: How many had their first token in each bucket of ``FIRST_TOKEN_EDGES``.
    """

    requests: int = 0
    errors: int = 0
    tokens: int = 0
    squared_tokens: int = 0
    cut: int = 0
    first_token: tuple[int, ...] = (0,) * (len(FIRST_TOKEN_EDGES) + 1)

    def __add__(self, other: Replies) -> Replies:
        return Replies(
            self.requests + other.requests,
            self.errors + other.errors,
            self.tokens + other.tokens,
            self.squared_tokens + other.squared_tokens,
            self.cut + other.cut,
            tuple(a + b for a, b in zip(self.first_token, other.first_token, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class Approval:
    """Approval of a version with every person's weight capped.

    Attributes:
        rate: In [0, 1].
        votes: Votes in all, of any person.
        people: Whose they are.
    """

    rate: float
    votes: int
    people: int


@dataclass(frozen=True, slots=True)
class VersionTally:
    """What is counted of one version, or of several together.

    Attributes:
        votes: Of each person, whose name is a hash: how many votes approve, how many disapprove,
            and how many were withdrawn.
    """

    votes: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    replies: Replies = field(default_factory=Replies)

    @property
    def cast(self) -> int:
        """How many votes there are."""
        return sum(up + down for up, down, _ in self.votes.values())

    @property
    def people(self) -> int:
        """How many people have a vote."""
        return sum(up + down > 0 for up, down, _ in self.votes.values())

    def approval(self, user_cap: int) -> Approval | None:
        """Return the approval with each person's weight capped; None without votes."""
        shares = [(up / (up + down), up + down) for up, down, _ in self.votes.values() if up + down]
        total = sum(min(votes, user_cap) for _, votes in shares)
        if not total:
            return None
        rate = sum(share * min(votes, user_cap) for share, votes in shares) / total
        return Approval(rate, self.cast, self.people)

    def withdrawals(self, user_cap: int) -> tuple[int, int]:
        """Return how many votes were withdrawn, and of how many; of a person at most the cap."""
        gone = sum(min(withdrawn, user_cap) for _, _, withdrawn in self.votes.values())
        stand = sum(min(up + down, user_cap) for up, down, _ in self.votes.values())
        return gone, gone + stand


@dataclass(frozen=True, slots=True)
class VersionComparison:
    """Two sides: the version or versions that are judged, and what they are compared with.

    Attributes:
        together: Whether both were served at the same time, to people drawn by chance.
    """

    test: VersionTally
    control: VersionTally
    together: bool


def pool(tallies: Iterable[VersionTally]) -> VersionTally:
    """Return the tally of several versions together."""
    votes: dict[str, tuple[int, int, int]] = {}
    replies = Replies()
    for tally in tallies:
        for person, (up, down, withdrawn) in tally.votes.items():
            before = votes.get(person, (0, 0, 0))
            votes[person] = (before[0] + up, before[1] + down, before[2] + withdrawn)
        replies += tally.replies
    return VersionTally(votes, replies)
