"""The simulation of the judge: its people are what they are said to be, and it can tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.judge import APPROVAL, Crowds, Scenario, simulate
from feedback.settings import JudgeSettings

BOUNDS = JudgeSettings().limits
CANARY = Scenario("", 0.5, 0.0, people=200, votes=600)


def test_people_vote_as_the_scenario_says() -> None:
    crowds = Crowds(replace(CANARY, change=-0.2, share=0.25), 50, np.random.default_rng(1))
    for _ in range(600):
        crowds.vote()
    cast = crowds.test.votes.sum() + crowds.control.votes.sum()
    assert cast == 50 * 600
    assert crowds.test.votes.sum() / cast == pytest.approx(0.25, abs=0.03)
    assert crowds.control.up.sum() / crowds.control.votes.sum() == pytest.approx(APPROVAL, abs=0.02)
    rate = crowds.test.up.sum() / crowds.test.votes.sum()
    assert rate == pytest.approx(APPROVAL - 0.2, abs=0.03)
    assert not ((crowds.test.votes > 0) & (crowds.control.votes > 0)).any()


def test_a_bad_canary_is_found_and_an_equal_one_spared() -> None:
    bad = simulate(replace(CANARY, change=-0.4), BOUNDS, 40, 1)
    assert bad["rolled back"]["share"] >= 0.95
    assert bad["rolled back"]["votes, median"] < 300
    equal = simulate(CANARY, BOUNDS, 100, 2)
    assert equal["rolled back"]["share"] <= 0.05


def test_a_life_goes_on_after_a_confirmation() -> None:
    life = Scenario("", None, 0.0, people=100, votes=900, before=300, life=True)
    found = simulate(life, BOUNDS, 20, 3)
    assert found["comparisons"] > 20
    assert found["rolled back"]["share"] <= 0.1
