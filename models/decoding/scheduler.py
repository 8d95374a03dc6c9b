"""Which rows decode, which one prefills, and which slot each has; knows no device and no tensor.

Slots ``0 .. decoding-1`` hold the rows that decode, so one slice of the KV memory is the whole
batch. At most one further row prefills, in the slot right after them, a chunk at a time. When a row
leaves, the last ones move up to keep the slice whole.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from models.errors import QueueFullError


class Schedulable(Protocol):
    """What the scheduler needs to know of a row."""

    @property
    def id(self) -> str:
        """A name that no other row in flight has."""
        ...

    @property
    def prompt_length(self) -> int:
        """Tokens to prefill."""
        ...

    @property
    def position(self) -> int:
        """The last position that its slot may hold."""
        ...


RowT = TypeVar("RowT", bound=Schedulable)


@dataclass(frozen=True, slots=True)
class Move:
    """KV memory to copy, ``source`` slot to ``target`` slot."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Chunk(Generic[RowT]):
    """Prompt positions ``start .. stop-1`` of ``row`` to prefill into ``slot``."""

    row: RowT
    slot: int
    start: int
    stop: int

    @property
    def is_last(self) -> bool:
        """Whether the row's first token can be sampled after this chunk."""
        return self.stop == self.row.prompt_length


class Scheduler(Generic[RowT]):
    """First come, first served, with a bounded queue."""

    def __init__(self, *, max_rows: int, max_queue: int, prefill_chunk: int) -> None:
        self._max_rows = max_rows
        self._max_queue = max_queue
        self._prefill_chunk = prefill_chunk
        self._waiting: deque[RowT] = deque()
        self._decoding: list[RowT] = []
        self._prefilling: RowT | None = None
        self._prefilled = 0

    @property
    def decoding(self) -> tuple[RowT, ...]:
        """Rows that decode, in slot order."""
        return tuple(self._decoding)

    @property
    def running(self) -> int:
        """Rows that have a slot."""
        return len(self._decoding) + (self._prefilling is not None)

    @property
    def waiting(self) -> int:
        """Rows that wait for a slot."""
        return len(self._waiting)

    @property
    def longest(self) -> int:
        """Positions that the fullest slot holds."""
        held = [row.position for row in self._decoding]
        return max([*held, self._prefilled if self._prefilling is not None else 0])

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self.running + self.waiting == 0

    def submit(self, row: RowT) -> None:
        """Queue a row.

        Raises:
            QueueFullError: Too many rows wait already.
        """
        if len(self._waiting) >= self._max_queue:
            raise QueueFullError(len(self._waiting))
        self._waiting.append(row)

    def next_chunk(self) -> Chunk[RowT] | None:
        """Return the prompt chunk to prefill in this step, admitting a row when there is room."""
        if self._prefilling is None and self._waiting and len(self._decoding) < self._max_rows:
            self._prefilling, self._prefilled = self._waiting.popleft(), 0
        row = self._prefilling
        if row is None:
            return None
        stop = min(self._prefilled + self._prefill_chunk, row.prompt_length)
        return Chunk(row=row, slot=len(self._decoding), start=self._prefilled, stop=stop)

    def chunk_done(self, chunk: Chunk[RowT]) -> None:
        """Note that ``chunk`` was prefilled; after its last chunk the row decodes."""
        self._prefilled = chunk.stop
        if chunk.is_last:
            self._decoding.append(chunk.row)
            self._prefilling = None

    def remove(self, row_id: str) -> tuple[Move, ...]:
        """Take a row out, wherever it is; return the moves that close the gap, in order.

        An unknown id changes nothing: the row has left already.
        """
        if self._prefilling is not None and self._prefilling.id == row_id:
            self._prefilling = None
            return ()
        for slot, row in enumerate(self._decoding):
            if row.id == row_id:
                return self._close_gap(slot)
        self._waiting = deque(row for row in self._waiting if row.id != row_id)
        return ()

    def clear(self) -> None:
        """Take every row out."""
        self._waiting.clear()
        self._decoding.clear()
        self._prefilling = None

    def _close_gap(self, slot: int) -> tuple[Move, ...]:
        moves = []
        last = len(self._decoding) - 1
        tail = self._decoding.pop()
        if slot != last:
            self._decoding[slot] = tail
            moves.append(Move(source=last, target=slot))
        if self._prefilling is not None:
            moves.append(Move(source=last + 1, target=last))
        return tuple(moves)
