from __future__ import annotations

from service.runtime.pace import FIRST_GUESS, LONGEST_SECONDS, Pace


def test_a_line_takes_as_long_as_its_replies_need_on_all_rows() -> None:
    pace = Pace(rows=4)
    for seconds in (2.0, 4.0):
        pace.ended(seconds, running=3, waiting=0)
    assert pace.seconds_for(8) == 6  # 8 replies of 3 seconds, 4 at a time


def test_before_any_reply_ended_it_guesses() -> None:
    assert Pace(rows=2).seconds_for(4) == 2 * FIRST_GUESS


def test_at_least_a_second_and_never_beyond_what_can_be_known() -> None:
    pace = Pace(rows=4)
    pace.ended(0.01, running=3, waiting=0)
    assert pace.seconds_for(0) == pace.seconds_for(5) == 1
    pace.ended(10_000.0, running=3, waiting=0)
    assert pace.seconds_for(100) == LONGEST_SECONDS


def test_while_others_wait_as_many_rows_as_run_are_all_there_are() -> None:
    pace = Pace(rows=32)
    pace.ended(2.0, running=4, waiting=9)
    assert pace.seconds_for(10) == 5  # 10 replies of 2 seconds, 4 at a time


def test_replies_of_long_ago_are_forgotten() -> None:
    pace = Pace(rows=1)
    for seconds in [50.0] + [1.0] * 64:
        pace.ended(seconds, running=1, waiting=0)
    assert pace.seconds_for(7) == 7
