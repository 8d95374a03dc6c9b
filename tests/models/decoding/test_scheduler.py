from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from models.decoding.queue import WaitingQueue
from models.decoding.scheduler import KvCopy, Scheduler, SlotPosition, StepPlan
from models.errors import QueueFullError


@dataclass
class Row:
    id: str
    prompt_length: int = 3
    decoded: int = 0
    user: str = "someone"

    @property
    def position(self) -> int:
        return self.prompt_length + self.decoded


def _nothing(row: Row, slot: int) -> int:
    return 0


def _scheduler(*, max_rows: int = 3, queue: int = 2, prefill_chunk: int = 4) -> Scheduler[Row]:
    line: WaitingQueue[Row] = WaitingQueue(max_rows=queue, max_rows_per_user=queue)
    return Scheduler(line, max_rows=max_rows, prefill_chunk=prefill_chunk)


def _step(scheduler: Scheduler[Row]) -> StepPlan[Row]:
    plan = scheduler.plan(_nothing)
    scheduler.advance(plan)
    return plan


def _admit(scheduler: Scheduler[Row], *names: str) -> None:
    for name in names:
        scheduler.submit(Row(name))
        _step(scheduler)


def _spans(plan: StepPlan[Row]) -> list[tuple[str, int, int, int]]:
    return [(chunk.row.id, chunk.slot, chunk.start, chunk.stop) for chunk in plan.chunks]


def test_a_long_prompt_is_prefilled_in_chunks_and_then_decodes() -> None:
    scheduler = _scheduler()
    scheduler.submit(Row("a", prompt_length=10))
    plans = [_step(scheduler) for _ in range(4)]
    assert [_spans(p) for p in plans] == [[("a", 0, 0, 4)], [("a", 0, 4, 8)], [("a", 0, 8, 10)], []]
    assert [[row.id for row in p.decoding] for p in plans] == [[], [], [], ["a"]]
    assert [c.is_last for p in plans for c in p.chunks] == [False, False, True]


def test_prompts_share_a_steps_tokens_and_only_the_last_is_left_unfinished() -> None:
    scheduler = _scheduler(prefill_chunk=8, queue=4)
    for name in "abc":
        scheduler.submit(Row(name))
    assert _spans(_step(scheduler)) == [("a", 0, 0, 3), ("b", 1, 0, 3), ("c", 2, 0, 2)]
    plan = _step(scheduler)
    assert [row.id for row in plan.decoding] == ["a", "b"]
    assert _spans(plan) == [("c", 2, 2, 3)]


def test_what_a_slot_holds_already_is_not_prefilled_again() -> None:
    scheduler = _scheduler(prefill_chunk=4, queue=4)
    scheduler.submit(Row("a", prompt_length=10))
    scheduler.submit(Row("b", prompt_length=10))
    plan = scheduler.plan(lambda row, slot: 8)
    assert _spans(plan) == [("a", 0, 8, 10), ("b", 1, 8, 10)]


def test_no_row_is_admitted_when_all_slots_decode() -> None:
    scheduler = _scheduler(max_rows=1)
    _admit(scheduler, "a")
    scheduler.submit(Row("b"))
    assert _step(scheduler).chunks == ()
    scheduler.remove("a")
    assert _spans(_step(scheduler)) == [("b", 0, 0, 3)]


def test_a_full_line_refuses() -> None:
    scheduler = _scheduler()
    scheduler.submit(Row("a"))
    scheduler.submit(Row("b"))
    with pytest.raises(QueueFullError, match="2 requests wait"):
        scheduler.submit(Row("c"))


def test_the_last_row_moves_into_a_gap_with_what_it_has_written() -> None:
    scheduler = _scheduler()
    _admit(scheduler, "a", "b", "c")
    scheduler.decoding[2].decoded = 5
    assert scheduler.find("c") == SlotPosition(scheduler.decoding[2], slot=2, written=8)
    assert scheduler.remove("a") == (KvCopy(source=2, target=0, length=8),)
    assert [row.id for row in scheduler.decoding] == ["c", "b"]


def test_the_prefilling_row_follows_when_a_decoding_row_leaves() -> None:
    scheduler = _scheduler()
    _admit(scheduler, "a", "b")
    scheduler.submit(Row("c", prompt_length=9))
    _step(scheduler)
    assert scheduler.remove("a") == (KvCopy(1, 0, 3), KvCopy(2, 1, 4))
    assert _spans(_step(scheduler)) == [("c", 1, 4, 8)]


def test_a_row_that_leaves_in_mid_prefill_frees_its_slot() -> None:
    scheduler = _scheduler()
    _admit(scheduler, "a")
    scheduler.submit(Row("b", prompt_length=9))
    scheduler.submit(Row("c"))
    _step(scheduler)
    assert scheduler.remove("b") == ()
    assert _spans(_step(scheduler)) == [("c", 1, 0, 3)]


def test_clearing_gives_back_every_row_once() -> None:
    scheduler = _scheduler(queue=5)
    _admit(scheduler, "a", "b")
    scheduler.submit(Row("c", prompt_length=9))
    _step(scheduler)
    scheduler.submit(Row("d"))
    assert sorted(row.id for row in scheduler.clear()) == ["a", "b", "c", "d"]
    assert scheduler.idle


class SlotMachine(RuleBasedStateMachine):
    """Follows what each slot holds by plans and moves alone: (row, position) at each position."""

    MAX_ROWS, QUEUE, CHUNK = 3, 4, 6

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = _scheduler(
            max_rows=self.MAX_ROWS, queue=self.QUEUE, prefill_chunk=self.CHUNK
        )
        self.slots: dict[int, list[tuple[str, int]]] = {s: [] for s in range(self.MAX_ROWS)}
        self.inside: dict[str, Row] = {}
        self.count = 0

    @rule(length=st.integers(1, 15), user=st.sampled_from("xyz"))
    def submit(self, length: int, user: str) -> None:
        self.count += 1
        row = Row(f"r{self.count}", prompt_length=length, user=user)
        if self.scheduler.waiting == self.QUEUE:
            with pytest.raises(QueueFullError):
                self.scheduler.submit(row)
        else:
            self.scheduler.submit(row)
            self.inside[row.id] = row

    @rule(share=st.floats(0, 1))
    def step(self, share: float) -> None:
        def restore(row: Row, slot: int) -> int:
            reused = int(share * (row.prompt_length - 1))
            self.slots[slot] = [(row.id, position) for position in range(reused)]
            return reused

        before = [(row, row.position) for row in self.scheduler.decoding]
        plan = self.scheduler.plan(restore)
        assert [(row, row.position) for row in plan.decoding] == before
        assert [c.slot for c in plan.chunks] == [
            len(plan.decoding) + n for n in range(len(plan.chunks))
        ]
        assert sum(c.stop - c.start for c in plan.chunks) <= self.CHUNK
        assert all(c.is_last for c in plan.chunks[:-1])
        for slot, row in enumerate(plan.decoding):
            assert self.slots[slot] == [(row.id, p) for p in range(row.position)]
            self.slots[slot].append((row.id, row.position))
            row.decoded += 1
        for chunk in plan.chunks:
            assert chunk.start < chunk.stop <= chunk.row.prompt_length
            # what lies beyond the start is left over from rows that have gone
            self.slots[chunk.slot] = self.slots[chunk.slot][: chunk.start]
            assert self.slots[chunk.slot] == [(chunk.row.id, p) for p in range(chunk.start)]
            self.slots[chunk.slot] += [(chunk.row.id, p) for p in range(chunk.start, chunk.stop)]
        self.scheduler.advance(plan)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.inside)))
        for move in self.scheduler.remove(name):
            self.slots[move.target] = self.slots[move.source][: move.length]
        del self.inside[name]
        assert self.scheduler.remove(name) == ()

    @invariant()
    def every_row_has_exactly_its_own_positions(self) -> None:
        places = [p for name in self.inside if (p := self.scheduler.find(name)) is not None]
        assert sorted(place.slot for place in places) == list(range(len(places)))
        assert len(places) <= self.MAX_ROWS
        for place in places:
            held = self.slots[place.slot][: place.written]
            assert held == [(place.row.id, p) for p in range(place.written)]

    @invariant()
    def no_row_is_lost_or_doubled(self) -> None:
        assert self.scheduler.running + self.scheduler.waiting == len(self.inside)
        assert self.scheduler.waiting <= self.QUEUE


TestSlots = SlotMachine.TestCase
TestSlots.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
