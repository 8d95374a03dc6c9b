from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from models.decoding.queue import WaitingQueue
from models.errors import QueueFullError


@dataclass(frozen=True)
class Row:
    id: str
    user: str = ""


def _line(*names: str, max_rows: int = 100, max_rows_per_user: int = 100) -> WaitingQueue[Row]:
    """Return a line of rows like ``a1``, whose user is ``a``."""
    line: WaitingQueue[Row] = WaitingQueue(max_rows=max_rows, max_rows_per_user=max_rows_per_user)
    for name in names:
        line.push(Row(name, name[0]))
    return line


def _popped(line: WaitingQueue[Row]) -> list[str]:
    return [line.pop().id for _ in range(len(line))]


def test_users_take_rows_and_keep_their_own_order() -> None:
    assert _popped(_line("a1", "a2", "a3", "b1", "c1", "b2")) == [
        *("a1", "b1", "c1"),
        *("a2", "b2"),
        "a3",
    ]


def test_who_was_just_served_comes_after_those_who_wait() -> None:
    line = _line("a1", "b1", "b2")
    assert line.pop().id == "a1"
    line.push(Row("a2", "a"))
    assert _popped(line) == ["b1", "a2", "b2"]


def test_a_row_can_leave_the_line() -> None:
    line = _line("a1", "a2", "b1")
    line.remove("a1")
    line.remove("b1")
    line.remove("b1")
    line.remove("unknown")
    assert _popped(line) == ["a2"]


def test_nothing_waits_in_a_cleared_line() -> None:
    line = _line("a1", "b1")
    line.clear()
    assert len(line) == 0
    with pytest.raises(IndexError):
        line.pop()


def test_a_full_line_refuses_everybody() -> None:
    line = _line("a1", "b1", max_rows=2)
    with pytest.raises(QueueFullError, match="2 requests wait already: try again") as refused:
        line.push(Row("c1", "c"))
    assert (refused.value.waiting, refused.value.own) == (2, None)
    line.pop()
    line.push(Row("c1", "c"))


def test_a_user_with_too_many_rows_is_refused_alone() -> None:
    line = _line("a1", "a2", "b1", max_rows_per_user=2)
    with pytest.raises(QueueFullError, match="2 of your requests wait") as refused:
        line.push(Row("a3", "a"))
    assert (refused.value.waiting, refused.value.own) == (3, 2)
    line.push(Row("b2", "b"))
    line.remove("a1")
    line.push(Row("a3", "a"))


@given(users=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40), data=st.data())
def test_everybody_who_waits_is_served_within_one_turn(
    users: list[str], data: st.DataObject
) -> None:
    line = _line(*(f"{user}{index}" for index, user in enumerate(users)))
    for _ in range(data.draw(st.integers(0, len(users) - 1))):
        line.pop()
    waiting = {row.user for rows in line._rows.values() for row in rows.values()}
    newcomers = data.draw(st.lists(st.sampled_from("abcdefgh"), max_size=10))
    served = set()
    for turn in range(len(waiting)):
        if turn < len(newcomers):
            line.push(Row(f"{newcomers[turn]}-new-{turn}", newcomers[turn]))
        served.add(line.pop().user)
    assert served == waiting


class LineMachine(RuleBasedStateMachine):
    """Compares the line with a plain list of what was pushed and has not left."""

    MAX_ROWS = 6
    MAX_ROWS_PER_USER = 3

    def __init__(self) -> None:
        super().__init__()
        self.line = _line(max_rows=self.MAX_ROWS, max_rows_per_user=self.MAX_ROWS_PER_USER)
        self.inside: list[Row] = []
        self.passed: dict[str, int] = {}
        self.count = 0

    def of(self, user: str) -> list[Row]:
        return [row for row in self.inside if row.user == user]

    @rule(user=st.sampled_from("abcd"))
    def push(self, user: str) -> None:
        self.count += 1
        row = Row(f"r{self.count}", user)
        full = len(self.inside) >= self.MAX_ROWS
        if full or len(self.of(user)) >= self.MAX_ROWS_PER_USER:
            with pytest.raises(QueueFullError):
                self.line.push(row)
            return
        self.line.push(row)
        self.inside.append(row)
        self.passed.setdefault(user, 0)

    @precondition(lambda self: self.inside)
    @rule()
    def pop(self) -> None:
        row = self.line.pop()
        assert row == self.of(row.user)[0]
        self.inside.remove(row)
        self.passed = {
            user: 0 if user == row.user else times + 1
            for user, times in self.passed.items()
            if self.of(user)
        }

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.inside))
        self.line.remove(row.id)
        self.inside.remove(row)
        if not self.of(row.user):
            del self.passed[row.user]

    @invariant()
    def as_many_wait_as_were_pushed_and_have_not_left(self) -> None:
        assert len(self.line) == len(self.inside) <= self.MAX_ROWS

    @invariant()
    def nobody_is_passed_over_by_more_than_all_the_others(self) -> None:
        # Between two turns of a user, each of the three others can be served once.
        assert all(times <= 3 for times in self.passed.values())

    def teardown(self) -> None:
        left = [self.line.pop() for _ in range(len(self.line))]
        assert sorted(row.id for row in left) == sorted(row.id for row in self.inside)


TestLine = LineMachine.TestCase
TestLine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
