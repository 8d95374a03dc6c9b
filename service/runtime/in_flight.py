"""The replies that are being written, so that a vote on one can wait for its record."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feedback.types import Person


@dataclass
class _Writing:
    """How many replies of one id are being written, and the event of the last one's end."""

    count: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class InFlight:
    """The replies of this process that have begun and are not recorded yet."""

    def __init__(self) -> None:
        self._writing: dict[tuple[str, Person], _Writing] = {}

    def begin(self, completion_id: str, person: Person) -> None:
        """Note a reply; a front end may ask for two of one id at the same time."""
        self._writing.setdefault((completion_id, person), _Writing()).count += 1

    def end(self, completion_id: str, person: Person) -> None:
        """Forget a reply, recorded or not; an unknown one is forgotten already."""
        writing = self._writing.get((completion_id, person))
        if writing is None:
            return
        writing.count -= 1
        if not writing.count:
            del self._writing[completion_id, person]
            writing.ended.set()

    async def ended(self, completion_id: str, person: Person) -> bool:
        """Wait for the end of all replies of an id; return whether one was in flight."""
        writing = self._writing.get((completion_id, person))
        if writing is None:
            return False
        await writing.ended.wait()
        return True
