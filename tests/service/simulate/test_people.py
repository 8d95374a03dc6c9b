"""Simulated users: thresholds, turns and clicks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from service.simulate.people import (
    SimulatedUser,
    Turn,
    approves,
    click,
    click_probability,
    make_turn,
    make_users,
)
from service.simulate.tastes import TASTES

BRIEF = TASTES["brief"]
PROMPTS = ("one", "two", "three")


def words(count: int) -> str:
    return " ".join(["word"] * count)


def turn(draw: float, *, flipped: bool = False) -> Turn:
    user = SimulatedUser("sim-0-0", BRIEF, -30.0)
    return Turn(0, user, "Why?", rated=True, draw=draw, flipped=flipped, seed=1)


def test_thresholds_spread_evenly_over_the_range() -> None:
    users = make_users(replace(BRIEF, thresholds=(-40.0, -24.0)), 4, seed=3)
    assert sorted(user.threshold for user in users) == [-38.0, -34.0, -30.0, -26.0]
    assert [user.name for user in users] == ["sim-3-0", "sim-3-1", "sim-3-2", "sim-3-3"]


def test_where_people_disagree_every_second_user_likes_something_else() -> None:
    users = make_users(TASTES["warm_or_formal"], 40, seed=3)
    tastes = [user.taste.name for user in users]
    assert tastes.count("warm_or_formal") == tastes.count("formal") == 20
    low, high = TASTES["formal"].thresholds
    theirs = [user.threshold for user in users if user.taste.name == "formal"]
    assert low < min(theirs) < low + (high - low) / 10
    assert high - (high - low) / 10 < max(theirs) < high


def test_a_user_likes_what_is_above_the_threshold() -> None:
    user = SimulatedUser("sim-0-0", BRIEF, -30.0)
    assert approves(user, "Why?", words(29))
    assert not approves(user, "Why?", words(30))


def test_the_click_is_logistic_in_the_distance_to_the_threshold() -> None:
    user = SimulatedUser("sim-0-0", BRIEF, -30.0)
    assert click_probability(user, "Why?", words(30)) == pytest.approx(0.5)
    # Two words shorter is one scale above: 1 / (1 + e^-1).
    assert click_probability(user, "Why?", words(28)) == pytest.approx(0.7310586, abs=1e-7)
    assert click_probability(user, "Why?", words(32)) == pytest.approx(1 / (1 + math.e))
    assert click_probability(user, "Why?", "") == pytest.approx(0.0, abs=1e-12)


def test_the_draw_decides_the_click_and_a_slip_turns_it_round() -> None:
    text = words(28)
    assert click(turn(0.73), text) == "up"
    assert click(turn(0.74), text) == "down"
    assert click(turn(0.73, flipped=True), text) == "down"
    assert click(turn(0.74, flipped=True), text) == "up"


def test_turns_take_users_in_turn_and_each_round_asks_every_question_once() -> None:
    users = make_users(BRIEF, 2, seed=0)
    turns = [make_turn(n, users, PROMPTS, seed=0, rate=1.0, flip=0.0) for n in range(6)]
    assert [one.user for one in turns] == [*users, *users, *users]
    assert sorted(one.prompt for one in turns[:3]) == sorted(PROMPTS)
    assert sorted(one.prompt for one in turns[3:]) == sorted(PROMPTS)


def test_the_same_seed_gives_the_same_turns_and_another_seed_others() -> None:
    users = make_users(BRIEF, 5, seed=0)

    def turns(seed: int) -> list[Turn]:
        return [make_turn(n, users, PROMPTS, seed=seed, rate=0.5, flip=0.1) for n in range(20)]

    assert turns(1) == turns(1)
    assert turns(1) != turns(2)


def test_the_shares_of_rated_and_flipped_turns_are_kept() -> None:
    users = make_users(BRIEF, 5, seed=0)
    turns = [make_turn(n, users, PROMPTS, seed=7, rate=0.3, flip=0.1) for n in range(2000)]
    # Four standard errors of a share over 2,000 turns: 0.041 and 0.027.
    assert sum(one.rated for one in turns) / 2000 == pytest.approx(0.3, abs=0.041)
    assert sum(one.flipped for one in turns) / 2000 == pytest.approx(0.1, abs=0.027)
