"""What the fixtures give that make completions and records, vote, and claim votes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from feedback.types import Completion, Run
from feedback.vote_record import VoteRecord

MakeCompletion = Callable[..., Completion]
"""``completion``: makes a completion; fields of the test's own win."""

MakeRecord = Callable[..., VoteRecord]
"""``record``: makes the record of a vote: ``record(1, thumb="up", text="...")``."""

RecordVote = Callable[..., Awaitable[str]]
"""``voted`` of the exports: records a completion and a vote on it; returns the id."""

RecordVotes = Callable[..., Awaitable[list[str]]]
"""``voted``: records completions with a vote each, 'u' is up, 'd' is down; returns the ids."""

ClaimVotes = Callable[..., Awaitable[Run]]
"""``claimed``: votes, and claims all that waits."""
