"""Decides which rows decode, which prefill, and which KV slot each has; imports no torch.

Slots ``0 .. n-1`` hold the decoding rows, so one slice of the KV cache is the whole batch. The
prefilling rows follow in the next slots. Each prefilling row but the last completes its prompt
within the step, so at most one row is partly prefilled between two steps. When a row leaves, later
rows move to lower slots to keep the slice contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.decoding.queue import WaitingQueue


class Schedulable(Protocol):
    """The attributes of a row that the scheduler reads."""

    @property
    def id(self) -> str:
        """An id that is unique among the rows in flight."""
        ...

    @property
    def user(self) -> str:
        """The user whose request the row answers."""
        ...

    @property
    def prompt_length(self) -> int:
        """The number of prompt tokens."""
        ...

    @property
    def position(self) -> int:
        """The position that a decoding row writes next; all earlier positions are written."""
        ...


RowT = TypeVar("RowT", bound=Schedulable)


@dataclass(frozen=True, slots=True)
class KvCopy:
    """A copy of the first ``length`` positions of slot ``source`` to slot ``target``."""

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
    """The slot of a row, and the number of its positions that are written."""

    row: RowT
    slot: int
    written: int


@dataclass(slots=True)
class _Prefilling(Generic[RowT]):
    row: RowT
    done: int


class Scheduler(Generic[RowT]):
    """Gives waiting rows their slots, and prompts their share of each step's prefill tokens.

    Args:
        queue: The rows that wait.
        max_rows: The number of slots.
        prefill_chunk: The most prompt tokens of one step.

    Attributes:
        prefill_chunk: The most prompt tokens of one step; may be changed between steps.
    """

    def __init__(self, queue: WaitingQueue[RowT], *, max_rows: int, prefill_chunk: int) -> None:
        self._queue = queue
        self._max_rows = max_rows
        self.prefill_chunk = prefill_chunk
        self._decoding: list[RowT] = []
        self._prefilling: list[_Prefilling[RowT]] = []

    @property
    def decoding(self) -> tuple[RowT, ...]:
        """The decoding rows, in slot order."""
        return tuple(self._decoding)

    @property
    def running(self) -> int:
        """The number of rows that have a slot."""
        return len(self._decoding) + len(self._prefilling)

    @property
    def waiting(self) -> int:
        """The number of rows that wait for a slot."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Whether no row runs or waits."""
        return self.running + self.waiting == 0

    def submit(self, row: RowT) -> None:
        """Add a row to the queue.

        Raises:
            QueueFullError: Too many rows wait already.
        """
        self._queue.push(row)

    def plan(self, restore: Callable[[RowT, int], int]) -> StepPlan[RowT]:
        """Admit waiting rows while slots and prefill tokens last, and return the next step.

        Args:
            restore: Fills the slot of a newly admitted row from a prefix cache. It takes the row
                and its slot, and returns the number of prompt tokens restored, which is less than
                the prompt's length.
        """
        left = self.prefill_chunk
        chunks: list[Chunk[RowT]] = []
        for index, entry in enumerate(self._prefilling):
            chunks.append(self._chunk(index, entry, left))
            left -= chunks[-1].stop - chunks[-1].start
        while left > 0 and self._queue and self.running < self._max_rows:
            entry = _Prefilling(self._queue.pop(), 0)
            self._prefilling.append(entry)
            entry.done = restore(entry.row, self.running - 1)
            chunks.append(self._chunk(len(self._prefilling) - 1, entry, left))
            left -= chunks[-1].stop - chunks[-1].start
        return StepPlan(decoding=self.decoding, chunks=tuple(chunks))

    def advance(self, plan: StepPlan[RowT]) -> None:
        """Record that the plan's chunks were prefilled; rows with a whole prompt decode next."""
        for chunk, entry in zip(plan.chunks, tuple(self._prefilling), strict=True):
            entry.done = chunk.stop
            if chunk.is_last:
                self._prefilling.remove(entry)
                self._decoding.append(chunk.row)

    def find(self, row_id: str) -> SlotPosition[RowT] | None:
        """Return the slot of a row; None if it has no slot."""
        return next((entry for entry in self._slot_positions() if entry.row.id == row_id), None)

    def remove(self, row_id: str) -> tuple[KvCopy, ...]:
        """Remove a waiting or running row; return the KV copies that close the gap, in order.

        Does nothing for an unknown id, because a row may already have left.
        """
        self._queue.remove(row_id)
        found = self.find(row_id)
        if found is None:
            return ()
        positions = self._slot_positions()
        moves = []
        gap = found.slot
        if gap < len(self._decoding):
            tail = len(self._decoding) - 1
            if gap != tail:
                moves.append(KvCopy(source=tail, target=gap, length=positions[tail].written))
                self._decoding[gap] = self._decoding[tail]
            self._decoding.pop()
            gap = tail
        else:
            del self._prefilling[gap - len(self._decoding)]
        moves += [
            KvCopy(source=entry.slot, target=entry.slot - 1, length=entry.written)
            for entry in positions[gap + 1 :]
        ]
        return tuple(moves)

    def clear(self) -> tuple[RowT, ...]:
        """Remove and return every row."""
        rows = [entry.row for entry in self._slot_positions()]
        while self._queue:
            rows.append(self._queue.pop())
        self._decoding.clear()
        self._prefilling.clear()
        return tuple(rows)

    def _chunk(self, index: int, entry: _Prefilling[RowT], max_tokens: int) -> Chunk[RowT]:
        return Chunk(
            row=entry.row,
            slot=len(self._decoding) + index,
            start=entry.done,
            stop=min(entry.done + max_tokens, entry.row.prompt_length),
        )

    def _slot_positions(self) -> list[SlotPosition[RowT]]:
        held = [(row, row.position) for row in self._decoding]
        held += [(entry.row, entry.done) for entry in self._prefilling]
        return [SlotPosition(row, slot, written) for slot, (row, written) in enumerate(held)]
