"""The load client's figures, worked out by hand."""

from __future__ import annotations

import json

import pytest

from bench.support.load import Window, gaps_within, spread, summarise, tokens_within
from bench.support.streams import Reply


def reply(sent: float, arrivals: list[float], tokens: int | None) -> Reply:
    usage = {"usage": {"completion_tokens": tokens}} if tokens is not None else {}
    events = [json.dumps(usage).encode()] if usage else []
    return Reply("model", sent=sent, arrivals=arrivals, events=events)


def test_tokens_are_those_of_the_usage_in_proportion_to_the_pieces_in_the_window() -> None:
    # Two of three pieces of six tokens, and a reply that was cut off before its usage.
    replies = [reply(0, [1.0, 2.0, 5.0], 6), reply(0, [1.5, 9.0], None)]
    assert tokens_within(replies, Window(1.0, 5.0)) == pytest.approx(4 + 1)


def test_a_gap_counts_when_both_its_ends_are_in_the_window() -> None:
    replies = [reply(0, [0.5, 1.0, 1.25, 3.0, 4.5], 5), reply(0, [2.0], 1)]
    assert gaps_within(replies, Window(1.0, 4.0)) == [0.25, 1.75]


def test_the_spread_is_in_milliseconds() -> None:
    assert spread([i / 1000 for i in range(101)]) == {"p50": 50.0, "p99": 99.0, "max": 100.0}
    assert spread([1.0]) is None


def test_the_summary_counts_what_was_asked_in_the_window() -> None:
    failed = reply(2.0, [], None)
    failed.problem = "429"
    replies = [reply(0.5, [1.0, 1.5], 2), reply(1.0, [1.25, 1.75], 4), failed]
    figures = summarise(replies, Window(1.0, 3.0))
    assert figures["tokens_per_second"] == pytest.approx((2 + 4) / 2)
    assert figures["replies"] == 2
    assert figures["reply_tokens_mean"] == 4
    assert figures["errors"] == 1
    assert figures["first_error"] == "429"


def test_a_window_that_never_began_is_an_error() -> None:
    with pytest.raises(ValueError, match="warmed up"):
        summarise([], Window(2.0, 1.0))
