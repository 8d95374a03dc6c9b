"""One vote with all that is recorded about it, as exports and imports know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from feedback.types import VoteState

if TYPE_CHECKING:
    from feedback.types import Completion, Person, Vote

RecordState = Literal[VoteState, "withdrawn", "deleted"]
TOMBSTONES: frozenset[RecordState] = frozenset({"withdrawn", "deleted"})
"""States of rows that only say that a vote is no more."""


@dataclass(frozen=True, slots=True)
class VoteRecord:
    """One vote, or what is left of it, as an export knows it. Times are seconds since the epoch.

    Attributes:
        revision: Rises with every change of the vote.
        version: The version that wrote the reply.
        scored_revision: The revision that last changed the score.
        voted_at: When the score last changed; waiting votes stand in this order.
        learned_by: The version that learned the vote; of a tombstone, the one that had.
        returned: How often it went back to waiting, as a version was refused or taken back.
        completion: The reply; None once it has expired.
    """

    id: str
    state: RecordState
    revision: int
    updated_at: float
    learned_by: str | None = None
    person: Person | None = None
    version: str | None = None
    vote: Vote | None = None
    score: float | None = None
    scored_revision: int | None = None
    voted_at: float | None = None
    reason: str | None = None
    returned: int = 0
    completion: Completion | None = None
