"""Which votes an update learns: pure, deterministic, and fair between users."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from feedback.types import FrozenVote, StaleVote
from models.versions import is_version_id, sequence_of

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from feedback.types import Person, Run, WaitingVote

Order = Literal["oldest", "newest"]

_ROUNDING = 1e-9
"""Lets 0.29 of 100 be 29, although the product of the floats is a little less."""

CROWD = 5
"""Users in the waiting votes from which on each one's share of a batch is capped."""


@dataclass(frozen=True, slots=True)
class FreshAndStale:
    """Waiting votes that may be learned from, and those on replies of versions too old."""

    fresh: tuple[WaitingVote, ...]
    stale: tuple[StaleVote, ...]


def sift(
    waiting: Sequence[WaitingVote], *, live: str, max_version_lag: int | None
) -> FreshAndStale:
    """Separate the votes on replies that are too many versions behind the live one.

    Versions are counted by their sequence numbers, ``base`` being 0. A reply of a version without
    one, as an import may bring, has no lag; nor has one that is newer than the live version.

    Args:
        waiting: Votes that no run has claimed.
        live: The version that is live.
        max_version_lag: Most versions that a reply may lie behind; None for any number.
    """
    fresh: list[WaitingVote] = []
    stale: list[StaleVote] = []
    for vote in waiting:
        lag = sequence_of(live) - sequence_of(vote.version) if is_version_id(vote.version) else 0
        if max_version_lag is None or lag <= max_version_lag:
            fresh.append(vote)
        else:
            reason = (
                f"The reply is by {vote.version}, {lag} versions before the live one; "
                f"at most {max_version_lag} are learned from."
            )
            stale.append(StaleVote(vote.completion_id, vote.revision, reason))
    return FreshAndStale(tuple(fresh), tuple(stale))


def choose(
    waiting: Sequence[WaitingVote],
    *,
    max_votes: int,
    max_user_share: float,
    order: Order = "oldest",
) -> tuple[FrozenVote, ...]:
    """Return the batch that waiting votes make: users in turn, each one's first votes first.

    Every user's first vote comes before anyone's second, so nobody's many votes keep others
    waiting. Once there are five users, none has more than a share of the batch that comes out (not
    of ``max_votes``: among few votes a single user has few); one vote each is always let in. What
    is left out waits for another batch.

    Args:
        waiting: Votes that no run has claimed, in any order, one per completion.
        max_votes: Most votes in the batch.
        max_user_share: Most of the batch from one user, in (0, 1].
        order: Which votes come first: within a turn, and among one user's.
    """
    ordered = sorted(
        waiting, key=lambda vote: (vote.voted_at, vote.completion_id), reverse=order == "newest"
    )
    counts = Counter(vote.person for vote in ordered)
    share = max_user_share if len(counts) >= CROWD else 1.0
    size = _largest_size(counts, max_votes, share)
    turns = _turns(ordered)
    taken = sorted(range(len(ordered)), key=turns.__getitem__)[:size]
    return tuple(
        FrozenVote(vote.completion_id, vote.revision, vote.score)
        for vote in (ordered[place] for place in sorted(taken))
    )


def _turns(ordered: Sequence[WaitingVote]) -> list[int]:
    """Return for each vote how many of the same user come before it."""
    ahead: Counter[Person] = Counter()
    turns = []
    for vote in ordered:
        turns.append(ahead[vote.person])
        ahead[vote.person] += 1
    return turns


def _cap(size: int, share: float) -> int:
    """Return the most votes of one user in a batch of ``size``."""
    return max(1, math.floor(size * share + _ROUNDING))


def _largest_size(counts: Counter[Person], max_votes: int, share: float) -> int:
    """Return the largest size that the users' votes can fill under the cap of that very size."""
    size = min(max_votes, counts.total())
    while (filled := sum(min(n, _cap(size, share)) for n in counts.values())) < size:
        size = filled
    return size


def learned_votes(runs: Sequence[Run]) -> tuple[FrozenVote, ...]:
    """Return the votes that earlier runs learned into a version that passed its gate, newest first.

    A completion comes once, with the vote that was learned last.

    Args:
        runs: Runs of the ledger, newest first.
    """
    newest: dict[str, FrozenVote] = {}
    for run in runs:
        if run.state == "approved":
            for vote in reversed(run.votes):
                newest.setdefault(vote.completion_id, vote)
    return tuple(newest.values())


def setbacks_in_a_row(runs: Sequence[Run], run: Run, rolled_back: Container[str | None]) -> int:
    """Return how many updates of a run's parent came to nothing right before it.

    Args:
        runs: Runs of the ledger, newest first; ``run`` and later ones are passed over.
        run: What is about to be learned.
        rolled_back: Versions that passed their gate and that people, or their operator, refused.
    """
    of_parent = (each for each in runs if each.number < run.number and each.parent == run.parent)
    refused = takewhile(
        lambda each: each.state == "rejected" or each.version in rolled_back, of_parent
    )
    return sum(1 for _ in refused)


def standing_votes(
    votes: Sequence[FrozenVote], stands: Sequence[bool], *, most: int
) -> tuple[FrozenVote, ...]:
    """Return the first votes that still stand as they were learned.

    Args:
        votes: What ``learned_votes`` returned.
        stands: For each of them, whether nobody has changed, withdrawn or given it back since.
        most: How many are returned, at most.
    """
    standing = [vote for vote, stand in zip(votes, stands, strict=True) if stand]
    return tuple(standing[:most])


def frozen_json(votes: Sequence[FrozenVote]) -> str:
    """Return a batch as JSON: a list of ``[completion id, revision, score]``, always the same."""
    return "[" + ",".join(vote_json(vote) for vote in votes) + "]"


def vote_json(vote: FrozenVote) -> str:
    """Return one vote as ``frozen_json`` has it."""
    return json.dumps([vote.completion_id, vote.revision, vote.score], separators=(",", ":"))


def batch_hash(votes: Sequence[FrozenVote]) -> str:
    """Return the SHA-1 (40 hex digits) of ``frozen_json``.

    SHA-1 is the hash that Redis offers to scripts, and the claim's script has to compute the same
    one over the votes that it really froze. It names a batch and guards against nothing.
    """
    return hashlib.sha1(frozen_json(votes).encode(), usedforsecurity=False).hexdigest()
