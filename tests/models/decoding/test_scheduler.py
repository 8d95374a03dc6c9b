from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from models.decoding.scheduler import Move, Scheduler
from models.errors import QueueFullError


@dataclass(frozen=True)
class Row:
    id: str
    prompt_length: int = 3
    position: int = 0


def _scheduler(**changes: int) -> Scheduler[Row]:
    return Scheduler(**{"max_rows": 3, "max_queue": 2, "prefill_chunk": 4, **changes})


def _admit(scheduler: Scheduler[Row], *names: str) -> None:
    for name in names:
        scheduler.submit(Row(name))
        chunk = scheduler.next_chunk()
        assert chunk is not None
        scheduler.chunk_done(chunk)


def test_a_long_prompt_is_prefilled_in_chunks() -> None:
    scheduler = _scheduler()
    scheduler.submit(Row("a", prompt_length=10))
    spans = []
    while (chunk := scheduler.next_chunk()) is not None:
        spans.append((chunk.start, chunk.stop, chunk.is_last))
        scheduler.chunk_done(chunk)
    assert spans == [(0, 4, False), (4, 8, False), (8, 10, True)]
    assert [row.id for row in scheduler.decoding] == ["a"]


def test_no_row_is_admitted_when_all_slots_decode() -> None:
    scheduler = _scheduler(max_rows=1)
    _admit(scheduler, "a")
    scheduler.submit(Row("b"))
    assert scheduler.next_chunk() is None
    scheduler.remove("a")
    assert scheduler.next_chunk() is not None


def test_a_full_queue_refuses() -> None:
    scheduler = _scheduler()
    scheduler.submit(Row("a"))
    scheduler.submit(Row("b"))
    with pytest.raises(QueueFullError, match="2 requests wait"):
        scheduler.submit(Row("c"))


def test_the_last_row_moves_into_a_gap() -> None:
    scheduler = _scheduler()
    _admit(scheduler, "a", "b", "c")
    assert scheduler.remove("a") == (Move(source=2, target=0),)
    assert [row.id for row in scheduler.decoding] == ["c", "b"]


def test_the_prefilling_row_follows_when_a_decoding_row_leaves() -> None:
    scheduler = _scheduler()
    _admit(scheduler, "a", "b")
    scheduler.submit(Row("c", prompt_length=9))
    chunk = scheduler.next_chunk()
    assert chunk is not None
    scheduler.chunk_done(chunk)
    assert scheduler.remove("a") == (Move(1, 0), Move(2, 1))
    following = scheduler.next_chunk()
    assert following is not None
    assert (following.row.id, following.slot, following.start) == ("c", 1, 4)


class SlotMachine(RuleBasedStateMachine):
    """Follows which row's memory lies in which slot, by the moves alone."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = _scheduler(max_queue=100)
        self.slots: dict[int, str] = {}
        self.inside: set[str] = set()
        self.count = 0

    @rule(length=st.integers(1, 10))
    def submit(self, length: int) -> None:
        self.count += 1
        name = f"r{self.count}"
        self.scheduler.submit(Row(name, prompt_length=length))
        self.inside.add(name)

    @rule()
    def prefill(self) -> None:
        chunk = self.scheduler.next_chunk()
        if chunk is not None:
            if chunk.start == 0:
                self.slots[chunk.slot] = chunk.row.id
            assert self.slots[chunk.slot] == chunk.row.id
            self.scheduler.chunk_done(chunk)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.inside)))
        for move in self.scheduler.remove(name):
            self.slots[move.target] = self.slots[move.source]
        self.inside.discard(name)

    @invariant()
    def every_decoding_row_lies_in_its_own_slot(self) -> None:
        names = [row.id for row in self.scheduler.decoding]
        assert names == [self.slots[slot] for slot in range(len(names))]
        assert len(set(names)) == len(names) <= 3

    @invariant()
    def no_row_is_lost_or_doubled(self) -> None:
        assert self.scheduler.running + self.scheduler.waiting == len(self.inside)


TestSlots = SlotMachine.TestCase
TestSlots.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
