"""Which waiting votes make a batch: pure, deterministic, and fair between users."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import TYPE_CHECKING

from feedback.events import FrozenVote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedback.events import Person, WaitingVote

CROWD = 5
"""Users in the waiting votes from which on each one's share of a batch is capped."""


def choose(
    waiting: Sequence[WaitingVote], *, max_votes: int, max_user_share: float
) -> tuple[FrozenVote, ...]:
    """Return the oldest votes, of which no user has more than a share once there are five users.

    The cap is a share of ``max_votes``, one vote at least, so that it does not depend on how many
    votes happen to wait; what it leaves out waits for the next batch.

    Args:
        waiting: Votes that no run has claimed, in any order, one per completion.
        max_votes: Most votes in the batch.
        max_user_share: Most of the batch from one user, in (0, 1].
    """
    ordered = sorted(waiting, key=lambda vote: (vote.voted_at, vote.completion_id))
    crowded = len({vote.person for vote in ordered}) >= CROWD
    cap = max(1, int(max_votes * max_user_share)) if crowded else max_votes
    taken: Counter[Person] = Counter()
    batch: list[FrozenVote] = []
    for vote in ordered:
        if len(batch) == max_votes:
            break
        if taken[vote.person] < cap:
            taken[vote.person] += 1
            batch.append(FrozenVote(vote.completion_id, vote.revision, vote.score))
    return tuple(batch)


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
