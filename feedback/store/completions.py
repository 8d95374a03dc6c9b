"""Completions of the record."""

from __future__ import annotations

from collections.abc import Sequence
from feedback.events import Completion, Person


class Completions:
    async def record(self, completion: Completion) -> None:
        raise NotImplementedError

    async def get(self, completion_id: str) -> Completion | None:
        raise NotImplementedError

    async def get_many(self, ids: Sequence[str]) -> list[Completion | None]:
        raise NotImplementedError

    async def get_owned(self, completion_id: str, person: Person) -> Completion:
        raise NotImplementedError

    async def delete(self, completion_id: str, person: Person) -> None:
        raise NotImplementedError
