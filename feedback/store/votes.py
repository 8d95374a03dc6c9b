"""Votes of the record."""

from __future__ import annotations
from feedback.events import Feedback, Person, Vote, WaitingVote


class Votes:
    async def put(
        self, completion_id: str, person: Person, vote: Vote, score: float | None, *, now: float
    ) -> Feedback:
        raise NotImplementedError

    async def get(self, completion_id: str, person: Person) -> Feedback:
        raise NotImplementedError

    async def withdraw(self, completion_id: str, person: Person, *, now: float) -> None:
        raise NotImplementedError

    async def waiting(self, limit: int) -> list[WaitingVote]:
        raise NotImplementedError

    async def count_waiting(self) -> int:
        raise NotImplementedError

    async def stats(self) -> dict[str, int]:
        raise NotImplementedError
