"""How a vote is stored in its hash ``tl:feedback:{id}``."""

from __future__ import annotations

from typing import Any

from feedback.store.codec import HashCodec, JsonCodec
from feedback.types import Feedback, Vote

_VOTE = JsonCodec(Vote, sort_keys=True)  # comparison_withdraw.lua relies on the order
_FEEDBACK = HashCodec(Feedback, without={"completion_id"})

EXPIRED = "The reply expired before an update could learn from this vote."
"""The reason that an expired vote has."""


def encode_vote(vote: Vote, score: float | None) -> tuple[str, str]:
    """Return a vote and its score as its hash has them; equal votes have equal texts."""
    return _VOTE.encode(vote), "" if score is None else repr(float(score))


def decode_vote(text: str) -> Vote:
    """Return the vote that the field ``vote`` of a hash holds."""
    return _VOTE.decode(text)


def decode_feedback(
    completion_id: str, found: dict[str, str], *, gone: bool = False, vote: Vote | None = None
) -> Feedback:
    """Return the vote of a hash; one that still waits but whose completion is gone has expired.

    Where the caller knows the ``vote``, as who has just put it does, it is not decoded again.
    """
    known: dict[str, Any] = {"completion_id": completion_id}
    if vote is not None:
        known["vote"] = vote
    if found["state"] == "expired" or (gone and found["state"] == "pending"):
        known |= {"state": "expired", "reason": EXPIRED}
    return _FEEDBACK.decode(found, **known)
