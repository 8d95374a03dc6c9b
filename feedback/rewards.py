"""What a vote is worth: the scalar in [-1, 1] that the learner sees (design §9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feedback.events import Vote

_MIDDLE = 2.5


def reward(vote: Vote) -> float | None:
    """Return up +1, down -1, a rating r as (r - 2.5) / 2.5; None when there is nothing to learn."""
    if vote.thumb is not None:
        return 1.0 if vote.thumb == "up" else -1.0
    if vote.rating is not None:
        return (vote.rating - _MIDDLE) / _MIDDLE
    return None
