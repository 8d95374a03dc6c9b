"""The evidence against independent reckonings: closed forms, numerical integrals, simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from feedback.judging.evidence import (
    Ballots,
    Difference,
    Sums,
    approval_difference,
    interval,
    log_evidence,
    mean_difference,
    share_difference,
)

SURE = 1e9


def side(*people: tuple[int, int]) -> Ballots:
    """Return ballots from (up, down) of each person."""
    counts = np.array(people, dtype=float).reshape(-1, 2)
    return Ballots(counts[:, 0], counts.sum(1))


def known(value: float, variance: float, freedom: float = SURE) -> Difference:
    return Difference(np.array(value), np.array(variance), np.array(freedom))


def test_whoever_voted_on_both_sides_is_compared_with_himself() -> None:
    # A strict and a lenient person, each 1/2 below themselves; sides of different composition.
    test = side((0, 2), (2, 2))
    control = side((2, 2), (1, 0))
    found = approval_difference(test, control, cap=100)
    pairs = (2 * 4 / 6, 4 * 1 / 5)
    expected = (pairs[0] * -0.5 + pairs[1] * -0.5) / sum(pairs)
    assert_allclose(found.value, expected)
    spreads = [(2 + 1) / (6 + 2), (3 + 1) / (5 + 2)]
    within = [p * (1 - p) / n for p, n in zip(spreads, pairs, strict=True)]
    weights = [n / sum(pairs) for n in pairs]
    assert_allclose(found.variance, sum(w**2 * v for w, v in zip(weights, within, strict=True)))
    assert found.freedom == SURE


def test_people_on_one_side_each_are_compared_as_samples() -> None:
    test, control = side((1, 0), (1, 1), (0, 1), (0, 0)), side((0, 0), (0, 0), (0, 0), (3, 0))
    control.up[:3], control.votes[:3] = 0, 0
    alone = approval_difference(test, control, cap=2)
    assert alone.variance == math.inf  # one person says nothing of how people differ
    control = side((0, 0), (0, 0), (0, 0), (3, 0), (2, 2), (1, 0))
    test = side((1, 0), (1, 1), (0, 1), (0, 0), (0, 0), (0, 0))
    found = approval_difference(test, control, cap=2)
    rate_t = (1 * 1 + 2 * 0.5 + 0) / 4
    rate_c = (2 * 1 + 2 * 0.5 + 1) / 5
    assert_allclose(found.value, rate_t - rate_c)
    parts = []
    for weights, rates, votes in (
        ([1, 2, 1], [1, 0.5, 0], [1, 2, 1]),
        ([2, 2, 1], [1, 0.5, 1], [3, 4, 1]),
    ):
        w, r, n = (np.array(each, dtype=float) for each in (weights, rates, votes))
        people = w.sum() ** 2 / (w**2).sum()
        mean = (w * r).sum() / w.sum()
        apart = (w**2 * (r - mean) ** 2).sum() / w.sum() ** 2 * people / (people - 1)
        shrunk = (w.sum() * mean + 1) / (w.sum() + 2)
        alike = shrunk * (1 - shrunk) * (w**2 / n).sum() / w.sum() ** 2
        parts.append((max(apart, alike), people - 1))
    (var_t, nu_t), (var_c, nu_c) = parts
    assert_allclose(found.variance, var_t + var_c)
    assert_allclose(found.freedom, (var_t + var_c) ** 2 / (var_t**2 / nu_t + var_c**2 / nu_c))


def test_nobody_weighs_more_than_the_cap() -> None:
    crowd = [(1, 1)] * 38
    flooded = [(0, 5000)] * 2
    nobody = [(0, 0)] * 40
    test = side(*crowd, *flooded, *nobody)
    control = side(*nobody, *crowd, (1, 1), (1, 1))
    found = approval_difference(test, control, cap=3)
    # 5 % of the accounts weigh 2 · 3 of 38 · 2 + 2 · 3 votes, whatever they do.
    assert_allclose(found.value, (38 * 2 * 0.5) / (38 * 2 + 6) - 0.5)
    both = side(*crowd, *flooded), side(*crowd, (5000, 0), (5000, 0))
    paired = approval_difference(*both, cap=3)
    assert_allclose(paired.value, 2 * 1.5 * -1 / (38 * 1 + 2 * 1.5))


def test_votes_of_many_people_need_few_of_each() -> None:
    alike = approval_difference(
        side(*[(1, 1)] * 50, *[(0, 0)] * 50), side(*[(0, 0)] * 50, *[(1, 1)] * 50), 3
    )
    apart = approval_difference(
        side(*[(2, 0), (0, 2)] * 25, *[(0, 0)] * 50),
        side(*[(0, 0)] * 50, *[(2, 0), (0, 2)] * 25),
        3,
    )
    assert alike.value == apart.value == 0
    # Votes of one opinion each are worth half: there are 50 opinions in 100 votes.
    assert_allclose(alike.variance, 2 * 0.25 / 100)
    assert_allclose(apart.variance, 2 * 0.25 / 50 * 50 / 49)


def test_without_votes_nothing_is_known() -> None:
    found = approval_difference(side((1, 0)), side((0, 0)), 3)
    assert found.value == 0
    assert found.variance == math.inf
    assert log_evidence(found, 0.15) == 0


@pytest.mark.parametrize(
    ("value", "variance"), [(0.1, 0.001), (-0.1, 0.001), (0.3, 0.01), (0.0, 1)]
)
def test_the_evidence_is_the_mixture_of_likelihood_ratios(value: float, variance: float) -> None:
    scale = 0.15
    drift = np.linspace(0, 2, 200_001)
    prior = 2 * np.exp(-(drift**2) / (2 * scale**2)) / (scale * math.sqrt(2 * math.pi))
    ratios = np.exp((drift * value - drift**2 / 2) / variance)
    integral = np.trapezoid(prior * ratios, drift)
    assert_allclose(log_evidence(known(value, variance), scale), math.log(integral), atol=1e-4)


def test_the_contrary_is_no_evidence_however_clear() -> None:
    values = -np.geomspace(0.001, 1.0, 200)
    evidence = log_evidence(Difference(values, np.full(200, 1e-5), np.full(200, SURE)), 0.15)
    assert (evidence < 0).all()
    assert (np.diff(evidence) <= 0).all()


def test_few_people_are_allowed_for() -> None:
    # Of 1 in 200 draws, Student's t with 4 degrees of freedom is beyond 4.604; a normal one, 2.576.
    few, many = known(4.604, 1.0, 4.0), known(2.576, 1.0)
    assert_allclose(log_evidence(few, 1.0), log_evidence(many, 1.0), atol=0.03)


def test_an_interval_ends_where_the_evidence_of_the_mixture_does() -> None:
    value, variance, scale, error = 0.05, 0.002, 0.15, 0.05
    low, high = interval(known(value, variance), scale, error)
    clock = scale**2 / variance
    for end in (low, high):
        pull = (value - end) ** 2 / variance * clock / (1 + clock) / 2
        assert_allclose(pull - 0.5 * math.log1p(clock), math.log(1 / error))
    wide_low, wide_high = interval(known(value, variance, 5.0), scale, error)
    assert wide_low < low
    assert wide_high > high


def test_looking_after_every_step_errs_no_more_often_than_allowed() -> None:
    draw = np.random.default_rng(1)
    paths, steps, error = 4000, 400, 0.05
    sums = draw.normal(size=(paths, steps)).cumsum(1)
    count = np.arange(1, steps + 1)
    evidence = log_evidence(
        Difference(
            sums / count, np.broadcast_to(1.0 / count, sums.shape), np.full(sums.shape, SURE)
        ),
        0.2,
    )
    crossed = (evidence >= math.log(1 / error)).any(1).mean()
    assert 0.01 < crossed < error
    naive = (sums / np.sqrt(count) > 1.645).any(1).mean()
    assert naive > 0.3  # what looking again and again does to a test that does not allow for it


def test_shares_and_means() -> None:
    def numbers(*values: float) -> list[np.ndarray]:
        return [np.array(value) for value in values]

    shares = share_difference(tuple(numbers(6, 100)), tuple(numbers(1, 50)), clumping=2.0)
    assert_allclose(shares.value, 0.06 - 0.02)
    p, q = 7 / 102, 2 / 52
    assert_allclose(shares.variance, 2 * (p * (1 - p) / 100 + q * (1 - q) / 50))
    test, control = Sums(*numbers(4, 40, 440)), Sums(*numbers(5, 25, 135))
    means = mean_difference(test, control, factor=3.0, clumping=2.0)
    assert_allclose(means.value, 10 / 5 - 3)
    assert_allclose(means.variance, 2 * ((10 + 1) / 4 + 9 * (2 + 1) / 5) / 25)
    nothing = mean_difference(test, Sums(*numbers(0, 0, 0)), factor=3.0, clumping=2.0)
    assert nothing.variance == math.inf
