from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from feedback.export import pairs
from feedback.export.pairs import Match, Pairing, PreferencePair, resolve
from feedback.types import Comparison
from models.types import Message

if TYPE_CHECKING:
    import pytest

    from tests.support.store.fixtures import MakeCompletion, MakeRecord

ONE = (Message("user", "One?"),)
TWO = (Message("user", "Two?"),)


def test_an_up_and_a_down_on_the_same_prompt_make_one_pair(record: MakeRecord) -> None:
    up = record(1, thumb="up", text="good", messages=ONE)
    down = record(2, thumb="down", text="bad", messages=ONE)
    for first, second in ((up, down), (down, up)):
        pairing = Pairing()
        assert pairing.take(first) == []
        (match,) = pairing.take(second)
        assert isinstance(match, Match)
        assert match.other == first.id
        assert resolve(match, first.completion) == PreferencePair(ONE, "good", "bad")
        assert pairing.state() == []


def test_votes_that_agree_or_are_of_other_prompts_wait(record: MakeRecord) -> None:
    pairing = Pairing()
    assert pairing.take(record(1, thumb="up", messages=ONE)) == []
    assert pairing.take(record(2, rating=5.0, messages=ONE)) == []
    assert pairing.take(record(3, thumb="down", messages=TWO)) == []
    assert pairing.take(record(4, rating=2.5, messages=ONE)) == []
    assert [each[0] for each in pairing.state()] == ["chatcmpl-1", "chatcmpl-2", "chatcmpl-3"]


def test_each_vote_is_in_one_pair_the_oldest_first(record: MakeRecord) -> None:
    pairing = Pairing()
    for number in (1, 2):
        pairing.take(record(number, thumb="up", messages=ONE))
    others = []
    for number in (3, 4, 5):
        others += [m.other for m in pairing.take(record(number, thumb="down", messages=ONE))]
    assert others == ["chatcmpl-1", "chatcmpl-2"]


def test_a_correction_is_better_than_the_reply(record: MakeRecord) -> None:
    found = Pairing().take(record(1, correction="good", text="bad", messages=ONE))
    assert found == [PreferencePair(ONE, "good", "bad")]
    assert Pairing().take(record(1, correction="same", text="same", messages=ONE)) == []


def test_a_comparison_makes_one_pair_from_its_chosen_side(record: MakeRecord) -> None:
    chosen = record(1, comparison=Comparison("chosen", "chatcmpl-2"), text="good", messages=ONE)
    rejected = record(2, comparison=Comparison("rejected", "chatcmpl-1"), text="bad", messages=ONE)
    pairing = Pairing()
    (match,) = pairing.take(chosen)
    assert pairing.take(rejected) == []
    assert isinstance(match, Match)
    assert resolve(match, rejected.completion) == PreferencePair(ONE, "good", "bad")


def test_no_pair_is_made_of_what_is_gone_alike_or_of_another_prompt(
    record: MakeRecord, completion: MakeCompletion
) -> None:
    match = Match(completion(1, text="a", messages=ONE), "chatcmpl-2", better=True)
    assert resolve(match, None) is None
    assert resolve(match, completion(2, text="a", messages=ONE)) is None
    assert resolve(match, completion(2, text="b", messages=TWO)) is None


def test_no_more_wait_than_the_window_holds(
    record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "WINDOW", 3)
    pairing = Pairing()
    for number in range(5):
        prompt = (Message("user", str(number)),)
        pairing.take(record(number, thumb="up", messages=prompt))
    assert [each[0] for each in pairing.state()] == ["chatcmpl-2", "chatcmpl-3", "chatcmpl-4"]
    zero = (Message("user", "0"),)
    assert pairing.take(record(9, thumb="down", messages=zero)) == []


def test_pairing_goes_on_from_its_state(record: MakeRecord) -> None:
    votes = [
        record(number, thumb="up" if number % 5 else "down", messages=(ONE, TWO)[number % 2])
        for number in range(40)
    ]
    whole = Pairing()
    expected = [found for vote in votes for found in whole.take(vote)]
    assert len(expected) == 8  # 0, 10, 20, 30 are down on ONE and 5, 15, 25, 35 on TWO

    stopped = Pairing()
    found = [each for vote in votes[:17] for each in stopped.take(vote)]
    resumed = Pairing.restored([list(each) for each in stopped.state()])
    found += [each for vote in votes[17:] for each in resumed.take(vote)]
    assert found == expected
    assert resumed.state() == whole.state()


def test_a_vote_whose_reply_expired_makes_no_pair(record: MakeRecord) -> None:
    gone = replace(record(1, thumb="up", correction="x"), completion=None)
    assert Pairing().take(gone) == []
