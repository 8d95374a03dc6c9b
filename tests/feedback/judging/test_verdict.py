"""What the judge decides, from counts worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feedback.judging import (
    Replies,
    VersionComparison,
    VersionTally,
    first_token_bucket,
    judge,
    pool,
)
from feedback.settings import JudgeSettings

BOUNDS = JudgeSettings().limits
QUICK = (0, 100, 80, 20, *(0,) * 6)


def tally(
    ups: int, people: int = 100, votes: int = 3, *, whom: str = "", replies: Replies | None = None
) -> VersionTally:
    """Return votes of which ``ups`` of ten are thumbs up, ``votes`` by each of so many people."""
    said = {}
    for number in range(people):
        up = sum((number * votes + turn) % 10 < ups for turn in range(votes))
        said[f"{whom}{number}"] = (up, votes - up, 0)
    return VersionTally(said, replies or Replies())


def compare(
    test: VersionTally, control: VersionTally, *, together: bool = True
) -> VersionComparison:
    return VersionComparison(test, control, together)


@pytest.mark.parametrize(
    ("ups", "votes", "state"),
    [(4, 3, "roll_back"), (6, 3, "hold"), (7, 9, "promote"), (7, 1, "hold"), (9, 3, "promote")],
)
def test_a_canary_is_judged_by_its_approval(ups: int, votes: int, state: str) -> None:
    people = 100 if votes < 9 else 300
    test = tally(ups, people, votes, whom="a")
    control = tally(7, people, votes, whom="b")
    assert judge(compare(test, control), BOUNDS).state == state


def test_the_same_people_need_fewer_votes() -> None:
    apart = judge(compare(tally(5, 60, whom="a"), tally(7, 60, whom="b")), BOUNDS)
    paired = judge(compare(tally(5, 60), tally(7, 60), together=False), BOUNDS)
    assert (apart.state, paired.state) == ("hold", "roll_back")


def test_few_votes_say_nothing_however_clear() -> None:
    test, control = tally(0, 4, 2, whom="a"), tally(10, 200, whom="b")
    assert test.cast < BOUNDS.min_votes
    assert judge(compare(test, control), BOUNDS).state == "hold"


def test_one_person_cannot_decide() -> None:
    honest = tally(7, 40, whom="a").votes
    flood = VersionTally({**honest, "eve": (0, 100_000, 50_000)})
    verdict = judge(compare(flood, tally(7, 40, whom="b")), BOUNDS)
    assert verdict.state == "hold"
    assert verdict.figures["test"]["approval"] == pytest.approx(0.7 * 120 / 123, abs=1e-4)


def test_a_verdict_says_what_it_rests_on() -> None:
    verdict = judge(compare(tally(4, whom="a"), tally(7, whom="b")), BOUNDS)
    figures = verdict.figures
    assert (figures["test"]["approval"], figures["control"]["approval"]) == (0.4, 0.7)
    assert (figures["test"]["votes"], figures["test"]["people"]) == (300, 100)
    assert figures["difference"] == -0.3
    low, high = figures["interval"]
    assert -0.5 < low < -0.3 < high < 0
    assert verdict.reasons[0].startswith(
        "People like it less: "
        "40% of 300 votes by 100 people, against 70% of 300 votes by 100 people;"
    )
    assert "-30 points" in verdict.reasons[0]


def test_the_votes_that_are_needed_are_about_enough() -> None:
    held = judge(compare(tally(6, 30, whom="a"), tally(8, 30, whom="b")), BOUNDS)
    assert held.votes_needed is not None
    people = 30 + held.votes_needed // 6  # as many more on each side, by new people
    more = round(people * 1.1)
    assert (
        judge(compare(tally(6, more, whom="a"), tally(8, more, whom="b")), BOUNDS).state != "hold"
    )
    fewer = round(people * 0.7)
    assert (
        judge(compare(tally(6, fewer, whom="a"), tally(8, fewer, whom="b")), BOUNDS).state == "hold"
    )


def test_before_the_first_vote_it_says_how_many_it_will_take() -> None:
    held = judge(compare(VersionTally(), VersionTally()), BOUNDS)
    assert held.votes_needed is not None
    assert 500 < held.votes_needed < 2000
    assert held.reasons == (
        f"About {held.votes_needed} more votes are needed: neither side has any yet.",
    )
    assert held.figures["test"]["approval"] is None


def test_one_vote_is_one_vote() -> None:
    held = judge(compare(tally(0, 1, 1), VersionTally()), BOUNDS)
    assert held.reasons[0].endswith("0% of 1 vote by 1 person, against no votes.")


def test_where_the_confirmed_version_has_too_few_votes_it_says_so() -> None:
    held = judge(compare(tally(7, whom="a"), tally(7, 8, 2, whom="b"), together=False), BOUNDS)
    assert (held.state, held.votes_needed) == ("hold", None)
    assert "the confirmed one has only 16" in held.reasons[0]
    assert "Start a canary" in held.reasons[0]


WELL = Replies(200, 0, 20_000, 2_100_000, 0, QUICK)
WORSE = {
    "Failed replies": replace(WELL, errors=50),
    "Slow first tokens": replace(WELL, first_token=(0, 20, 20, 20, 140, *(0,) * 5)),
    "Replies are": replace(WELL, tokens=80_000, squared_tokens=33_000_000),
}


@pytest.mark.parametrize("what", WORSE)
def test_a_guard_takes_a_liked_version_back(what: str) -> None:
    test = tally(9, whom="a", replies=WORSE[what])
    control = tally(5, whom="b", replies=WELL)
    verdict = judge(compare(test, control), BOUNDS)
    assert verdict.state == "roll_back"
    assert [reason.startswith(what) for reason in verdict.reasons] == [True]
    swapped = judge(compare(replace(control, replies=WELL), test), BOUNDS)
    assert not any(reason.startswith(what) for reason in swapped.reasons)


def test_withdrawn_votes_are_a_guard_by_person() -> None:
    many = {f"a{number}": (2, 1, 2) for number in range(80)}
    verdict = judge(compare(VersionTally(many), tally(7, whom="b")), BOUNDS)
    assert verdict.state == "roll_back"
    assert verdict.reasons == ("Withdrawn votes rose to 40.0% from 0.0%; 10% more is allowed.",)
    one = {**tally(7, whom="a").votes, "eve": (0, 0, 5000)}
    assert judge(compare(VersionTally(one), tally(7, whom="b")), BOUNDS).state == "hold"


@pytest.mark.parametrize("what", ["Failed replies", "Slow first tokens"])
def test_what_depends_on_the_hour_takes_nothing_back_without_a_canary(what: str) -> None:
    test, control = tally(9, replies=WORSE[what]), tally(5, replies=WELL)
    verdict = judge(compare(test, control, together=False), BOUNDS)
    assert verdict.state == "hold"
    assert verdict.reasons[0].startswith("People like it no less")
    assert verdict.reasons[1].startswith(what)


def test_versions_are_pooled_by_person() -> None:
    first = VersionTally({"a": (1, 0, 0), "b": (0, 2, 1)}, Replies(3, first_token=(1,) * 10))
    second = VersionTally({"b": (1, 0, 0)}, Replies(2, 1, 5, 25, 1, (2,) * 10))
    both = pool([first, second])
    assert both.votes == {"a": (1, 0, 0), "b": (1, 2, 1)}
    assert both.replies == Replies(5, 1, 5, 25, 1, (3,) * 10)
    assert (both.cast, both.people) == (4, 2)


def test_first_tokens_fall_into_buckets() -> None:
    assert [first_token_bucket(each) for each in (0.0, 0.1, 0.11, 32.0, 32.1)] == [0, 0, 1, 8, 9]
