"""The replies that were served without a record, so that a vote on one can be explained."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from service.errors import NotFoundError

if TYPE_CHECKING:
    from feedback.errors import UnknownCompletionError
    from feedback.types import Person

MAX_UNRECORDED = 10_000


class Unrecorded:
    """The last replies that were served without a record."""

    def __init__(self) -> None:
        self._ids: OrderedDict[tuple[str, Person], None] = OrderedDict()

    def add(self, completion_id: str, person: Person) -> None:
        """Remember a reply, and forget the oldest if there are too many."""
        self._ids[completion_id, person] = None
        if len(self._ids) > MAX_UNRECORDED:
            self._ids.popitem(last=False)

    def __contains__(self, item: tuple[str, Person]) -> bool:
        return item in self._ids

    def explain(
        self, error: UnknownCompletionError, person: Person, *completion_ids: str
    ) -> NotFoundError:
        """Return the refusal of a request that names replies of which at least one is unknown.

        It says so where one of them was served without a record.
        """
        if any((each, person) in self for each in completion_ids):
            return NotFoundError(
                "This reply was served without a record, because Redis was away or the request "
                "said `store: false`. It cannot be voted on.",
                code="not_recorded",
            )
        return NotFoundError(str(error), code="completion_not_found")
