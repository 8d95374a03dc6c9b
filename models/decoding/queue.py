"""A bounded queue of rows that wait for a slot, fair between users."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from models.errors import QueueFullError


class WaitingRow(Protocol):
    """The attributes of a row that the queue reads."""

    @property
    def id(self) -> str:
        """An id that is unique among the rows in flight."""
        ...

    @property
    def user(self) -> str:
        """The user whose request the row answers."""
        ...


RowT = TypeVar("RowT", bound=WaitingRow)


class WaitingQueue(Generic[RowT]):
    """A round-robin queue over users; the rows of one user leave in order of arrival.

    A user whose row was taken goes behind the other users, and so does a new user. With ``k`` users
    waiting, the first row of each user is among the next ``k`` rows taken.

    Args:
        max_rows: The most rows that may wait.
        max_rows_per_user: The most rows of one user that may wait.
    """

    def __init__(self, *, max_rows: int, max_rows_per_user: int) -> None:
        self._max_rows = max_rows
        self._max_rows_per_user = max_rows_per_user
        self._rows: OrderedDict[str, OrderedDict[str, RowT]] = OrderedDict()
        self._user_of: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._user_of)

    def push(self, row: RowT) -> None:
        """Add a row.

        Raises:
            QueueFullError: The queue is full, or the user's share of it is.
        """
        if len(self) >= self._max_rows:
            raise QueueFullError(len(self))
        own = len(self._rows.get(row.user, ()))
        if own >= self._max_rows_per_user:
            raise QueueFullError(len(self), own=own)
        self._rows.setdefault(row.user, OrderedDict())[row.id] = row
        self._user_of[row.id] = row.user

    def pop(self) -> RowT:
        """Remove and return the next row.

        Raises:
            IndexError: The queue is empty.
        """
        if not self._rows:
            raise IndexError("The queue is empty: check its length first.")
        user, rows = next(iter(self._rows.items()))
        row = next(iter(rows.values()))
        self.remove(row.id)
        if user in self._rows:
            self._rows.move_to_end(user)
        return row

    def remove(self, row_id: str) -> None:
        """Remove a row; does nothing for an id that is not in the queue."""
        user = self._user_of.pop(row_id, None)
        if user is None:
            return
        rows = self._rows[user]
        del rows[row_id]
        if not rows:
            del self._rows[user]

    def clear(self) -> None:
        """Remove every row."""
        self._rows.clear()
        self._user_of.clear()
