"""Which rows decode, which prefill, and which slot each has; knows no device and no tensor.

Slots ``0 .. n-1`` hold the rows that decode, so one slice of the KV memory is the whole batch. The
rows that prefill come right after them. All but the last of these complete their prompts within the
step and decode from the next one on, so at most one row is partly prefilled between two steps. When
a row leaves, the last ones move up to keep the slice whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.decoding.queue import WaitingQueue


class Schedulable(Protocol):
    """What the scheduler needs to know of a row."""

    @property
    def id(self) -> str:
        """A name that no other row in flight has."""
        ...

    @property
    def user(self) -> str:
        """Who asked for it."""
        ...

    @property
    def prompt_length(self) -> int:
        """Tokens to prefill."""
        ...

    @property
    def position(self) -> int:
        """Once it decodes: the position that is written next, all before it being written."""
        ...


RowT = TypeVar("RowT", bound=Schedulable)


@dataclass(frozen=True, slots=True)
class KvCopy:
    """KV memory to copy: the first ``length`` positions of ``source`` slot to ``target`` slot."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Chunk(Generic[RowT]):
    """Prompt positions ``start .. stop-1`` of ``row`` to prefill into ``slot``."""

    row: RowT
    slot: int
    start: int
    stop: int

    @property
    def is_last(self) -> bool:
        """Whether the row's first token can be drawn after this chunk."""
        return self.stop == self.row.prompt_length


@dataclass(frozen=True, slots=True)
class StepPlan(Generic[RowT]):
    """One step: the rows that decode, in slots 0 .. n-1, and the chunks in the slots after them."""

    decoding: tuple[RowT, ...]
    chunks: tuple[Chunk[RowT], ...]


@dataclass(frozen=True, slots=True)
class SlotPosition(Generic[RowT]):
    """Where a row is: its slot, and how many positions of it are written."""

    row: RowT
    slot: int
    written: int


@dataclass(slots=True)
class _Prefilling(Generic[RowT]):
    row: RowT
    done: int


class Scheduler(Generic[RowT]):
    """Gives waiting rows their slots and their share of each step's prompt tokens.

    Args:
        line: Where rows wait.
        max_rows: How many slots there are.
        prefill_chunk: Most prompt tokens of one step.

    Attributes:
        prefill_chunk: The same; may be changed between steps.
    """

    def __init__(self, line: WaitingQueue[RowT], *, max_rows: int, prefill_chunk: int) -> None:
        self._line = line
        self._max_rows = max_rows
        self.prefill_chunk = prefill_chunk
        self._decoding: list[RowT] = []
        self._prefilling: list[_Prefilling[RowT]] = []

    @property
    def decoding(self) -> tuple[RowT, ...]:
        """Rows that decode, in slot order."""
        return tuple(self._decoding)

    @property
    def running(self) -> int:
        """Rows that have a slot."""
        return len(self._decoding) + len(self._prefilling)

    @property
    def waiting(self) -> int:
        """Rows that wait for a slot."""
        return len(self._line)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self.running + self.waiting == 0

    def submit(self, row: RowT) -> None:
        """Let a row wait.

        Raises:
            QueueFullError: Too many rows wait already.
        """
        self._line.push(row)

    def plan(self, restore: Callable[[RowT, int], int]) -> StepPlan[RowT]:
        """Return the next step, having admitted rows while slots and prompt tokens last.

        Args:
            restore: Called with each newly admitted row and its slot; returns how many of its
                prompt's first tokens the slot holds already, fewer than the prompt has.
        """
        left = self.prefill_chunk
        chunks: list[Chunk[RowT]] = []
        for index, entry in enumerate(self._prefilling):
            chunks.append(self._chunk(index, entry, left))
            left -= chunks[-1].stop - chunks[-1].start
        while left > 0 and self._line and self.running < self._max_rows:
            entry = _Prefilling(self._line.pop(), 0)
            self._prefilling.append(entry)
            entry.done = restore(entry.row, self.running - 1)
            chunks.append(self._chunk(len(self._prefilling) - 1, entry, left))
            left -= chunks[-1].stop - chunks[-1].start
        return StepPlan(decoding=self.decoding, chunks=tuple(chunks))

    def advance(self, plan: StepPlan[RowT]) -> None:
        """Note that the plan's chunks were prefilled; rows whose prompt is complete decode next."""
        for chunk, entry in zip(plan.chunks, tuple(self._prefilling), strict=True):
            entry.done = chunk.stop
            if chunk.is_last:
                self._prefilling.remove(entry)
                self._decoding.append(chunk.row)

    def find(self, row_id: str) -> SlotPosition[RowT] | None:
        """Return where a row is; None when it has no slot."""
        return next((place for place in self._places() if place.row.id == row_id), None)

    def remove(self, row_id: str) -> tuple[KvCopy, ...]:
        """Take a row out, wherever it is; return the moves that close the gap, in order.

        An unknown id changes nothing: the row has left already.
        """
        self._line.remove(row_id)
        found = self.find(row_id)
        if found is None:
            return ()
        places = self._places()
        moves = []
        gap = found.slot
        if gap < len(self._decoding):
            tail = len(self._decoding) - 1
            if gap != tail:
                moves.append(KvCopy(source=tail, target=gap, length=places[tail].written))
                self._decoding[gap] = self._decoding[tail]
            self._decoding.pop()
            gap = tail
        else:
            del self._prefilling[gap - len(self._decoding)]
        moves += [
            KvCopy(source=place.slot, target=place.slot - 1, length=place.written)
            for place in places[gap + 1 :]
        ]
        return tuple(moves)

    def clear(self) -> tuple[RowT, ...]:
        """Take every row out and return them."""
        rows = [place.row for place in self._places()]
        while self._line:
            rows.append(self._line.pop())
        self._decoding.clear()
        self._prefilling.clear()
        return tuple(rows)

    def _chunk(self, index: int, entry: _Prefilling[RowT], most: int) -> Chunk[RowT]:
        return Chunk(
            row=entry.row,
            slot=len(self._decoding) + index,
            start=entry.done,
            stop=min(entry.done + most, entry.row.prompt_length),
        )

    def _places(self) -> list[SlotPosition[RowT]]:
        held = [(row, row.position) for row in self._decoding]
        held += [(entry.row, entry.done) for entry in self._prefilling]
        return [SlotPosition(row, slot, written) for slot, (row, written) in enumerate(held)]
