"""Which waiting votes make a batch: pure, deterministic, and fair between users."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from typing import TYPE_CHECKING

from feedback.events import FrozenVote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.events import Person, WaitingVote

_ROUNDING = 1e-9
"""Lets 0.29 of 100 be 29, although the product of the floats is a little less."""

CROWD = 5
"""Users in the waiting votes from which on each one's share of a batch is capped."""


def choose(
    waiting: Sequence[WaitingVote], *, max_votes: int, max_user_share: float
) -> tuple[FrozenVote, ...]:
    """Return the oldest votes, of which no user has more than a share once there are five users.

    The share is one of the batch that comes out, not of ``max_votes``: among few votes a single
    user has few. One vote each is always let in. What is left out waits for another batch.

    Args:
        waiting: Votes that no run has claimed, in any order, one per completion.
        max_votes: Most votes in the batch.
        max_user_share: Most of the batch from one user, in (0, 1].
    """
    ordered = sorted(waiting, key=lambda vote: (vote.voted_at, vote.completion_id))
    counts = Counter(vote.person for vote in ordered)
    share = max_user_share if len(counts) >= CROWD else 1.0
    size = _largest_size(counts, max_votes, share)
    taken: Counter[Person] = Counter()
    batch: list[FrozenVote] = []
    for vote in ordered:
        if len(batch) == size:
            break
        if taken[vote.person] < _cap(size, share):
            taken[vote.person] += 1
            batch.append(FrozenVote(vote.completion_id, vote.revision, vote.score))
    return tuple(batch)


def _cap(size: int, share: float) -> int:
    """Return the most votes of one user in a batch of ``size``."""
    return max(1, math.floor(size * share + _ROUNDING))


def _largest_size(counts: Counter[Person], max_votes: int, share: float) -> int:
    """Return the largest size that the users' votes can fill under the cap of that very size."""
    size = min(max_votes, counts.total())
    while (filled := sum(min(n, _cap(size, share)) for n in counts.values())) < size:
        size = filled
    return size


def frozen_json(votes: Sequence[FrozenVote]) -> str:
    """Return the one spelling of a batch: a JSON list of ``[completion id, revision, score]``."""
    return "[" + ",".join(vote_json(vote) for vote in votes) + "]"


def vote_json(vote: FrozenVote) -> str:
    """Return one vote as it stands in ``frozen_json``."""
    return json.dumps([vote.completion_id, vote.revision, vote.score], separators=(",", ":"))


def batch_hash(votes: Sequence[FrozenVote]) -> str:
    """Return the SHA-1 (40 hex digits) of ``frozen_json``.

    SHA-1 is the hash that Redis offers to scripts, and the claim's script has to compute the same
    one over the votes that it really froze. It names a batch and guards against nothing.
    """
    return hashlib.sha1(frozen_json(votes).encode(), usedforsecurity=False).hexdigest()
