"""The replies that are being written, so that a vote on one can wait for its record."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feedback.types import Person


class InFlight:
    """The replies of this process that have begun and are not recorded yet."""

    def __init__(self) -> None:
        self._ends: dict[tuple[str, Person], asyncio.Event] = {}

    def begin(self, completion_id: str, person: Person) -> None:
        """Note a reply."""
        self._ends[completion_id, person] = asyncio.Event()

    def end(self, completion_id: str, person: Person) -> None:
        """Forget a reply, recorded or not; an unknown one is forgotten already."""
        if ended := self._ends.pop((completion_id, person), None):
            ended.set()

    async def ended(self, completion_id: str, person: Person) -> bool:
        """Wait for the end of a reply; return whether it was in flight."""
        end = self._ends.get((completion_id, person))
        if end is None:
            return False
        await end.wait()
        return True
