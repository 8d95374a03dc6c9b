"""How a vote is spelled in its hash ``tl:feedback:{id}``, and read from it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from feedback.types import Comparison, Feedback, Vote

if TYPE_CHECKING:
    from feedback.types import VoteState

_SAID = ("thumb", "rating", "comment", "tags", "correction")

EXPIRED = "The reply expired before an update could learn from this vote."
"""The reason that an expired vote has."""


def spell_vote(vote: Vote, score: float | None) -> tuple[str, str]:
    """Return a vote and its score as the hash has them; equal votes are spelled alike."""
    said = {name: getattr(vote, name) for name in _SAID}
    if vote.comparison is not None:  # else spelled as before there were comparisons
        said["comparison"] = asdict(vote.comparison)
    return json.dumps(said, sort_keys=True), "" if score is None else repr(float(score))


def read_vote(spelled: str) -> Vote:
    """Return the vote that a hash's field ``vote`` spells."""
    said = json.loads(spelled)
    compared = said.pop("comparison", None)
    comparison = Comparison(**compared) if compared else None
    return Vote(**{**said, "tags": tuple(said["tags"]), "comparison": comparison})


def decode_vote(
    completion_id: str, found: dict[str, str], *, gone: bool = False, vote: Vote | None = None
) -> Feedback:
    """Return the vote of a hash; one that still waits but whose completion is gone has expired.

    Where the caller knows the ``vote``, as who has just put it does, it is not read again.
    """
    state = cast("VoteState", found["state"])
    if gone and state == "pending":
        state = "expired"
    return Feedback(
        completion_id=completion_id,
        vote=vote or read_vote(found["vote"]),
        score=float(found["score"]) if found["score"] else None,
        revision=int(found["revision"]),
        state=state,
        updated_at=float(found["updated_at"]),
        version=found.get("version"),
        reason=EXPIRED if state == "expired" else found.get("reason"),
    )
