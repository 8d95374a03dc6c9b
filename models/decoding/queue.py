"""The line of rows that wait for a slot: bounded, and fair between users."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

from models.errors import QueueFullError


class WaitingRow(Protocol):
    """What the line needs to know of a row."""

    @property
    def id(self) -> str:
        """A name that no other row in flight has."""
        ...

    @property
    def user(self) -> str:
        """Who asked for it."""
        ...


RowT = TypeVar("RowT", bound=WaitingRow)


class WaitingQueue(Generic[RowT]):
    """Users take turns, a row each; one user's rows come in the order in which they arrived.

    A user whose row was taken, or who had none, goes behind the others that wait. So with ``k``
    users waiting, the first row of each is among the next ``k`` that are taken.
    """

    def __init__(self, *, max_rows: int, max_rows_per_user: int) -> None:
        self._max_rows = max_rows
        self._max_rows_per_user = max_rows_per_user
        self._turns: OrderedDict[str, OrderedDict[str, RowT]] = OrderedDict()
        self._users: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._users)

    def push(self, row: RowT) -> None:
        """Let a row wait.

        Raises:
            QueueFullError: As many rows wait already as may, of all users or of this one.
        """
        if len(self) >= self._max_rows:
            raise QueueFullError(len(self))
        own = len(self._turns.get(row.user, ()))
        if own >= self._max_rows_per_user:
            raise QueueFullError(len(self), own=own)
        self._turns.setdefault(row.user, OrderedDict())[row.id] = row
        self._users[row.id] = row.user

    def pop(self) -> RowT:
        """Take the row whose turn it is.

        Raises:
            IndexError: Nothing waits.
        """
        if not self._turns:
            raise IndexError("Nothing waits: look at the length first.")
        user, rows = next(iter(self._turns.items()))
        row = next(iter(rows.values()))
        self.remove(row.id)
        if user in self._turns:
            self._turns.move_to_end(user)
        return row

    def remove(self, row_id: str) -> None:
        """Take a row out; an unknown id changes nothing: the row has left already."""
        user = self._users.pop(row_id, None)
        if user is None:
            return
        rows = self._turns[user]
        del rows[row_id]
        if not rows:
            del self._turns[user]

    def clear(self) -> None:
        """Take every row out."""
        self._turns.clear()
        self._users.clear()
