"""Pure statistics of a comparison: how far two versions differ, and how strong the evidence is.

Votes of one person are alike, so people are the unit, and no person counts for more than a cap.
The judge reads the votes again and again, so the evidence is an e-process, which holds however
often it is read.
All functions work along the last axis, so that a simulation judges many comparisons at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_MANY = 1e9
"""Degrees of freedom of a variance that is as good as known."""

_normal_cdf = np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2)), otypes=[np.float64])


@dataclass(frozen=True, slots=True)
class Ballots:
    """What each person said of one side of a comparison; (..., people), the same on both sides.

    Attributes:
        up: Approving votes.
        votes: All votes that approve or disapprove.
    """

    up: Floats
    votes: Floats

    def counted(self, cap: float) -> Floats:
        """Votes that count, (...): of one person at most ``cap``."""
        total: Floats = np.minimum(self.votes, cap).sum(-1)
        return total


@dataclass(frozen=True, slots=True)
class Sums:
    """Figures of many values, each (...): how many, their sum, the sum of their squares."""

    count: Floats
    total: Floats
    squares: Floats

    @property
    def mean(self) -> Floats:
        """The mean; 0 of nothing."""
        mean: Floats = self.total / _or_one(self.count)
        return mean

    @property
    def error(self) -> Floats:
        """The variance of the mean; never 0, as if the values were whole numbers off by one."""
        spread = np.maximum(self.squares / _or_one(self.count) - self.mean**2, 0.0)
        error: Floats = (spread + 1) / _or_one(self.count)
        return error


@dataclass(frozen=True, slots=True)
class Difference:
    """An estimate of a difference, each (...).

    Attributes:
        value: Test side less control side.
        variance: Of ``value``; infinite where nothing can be said.
        freedom: Degrees of freedom of ``variance``.
    """

    value: Floats
    variance: Floats
    freedom: Floats

    def beyond(self, bound: float) -> Difference:
        """The same difference, seen from ``bound`` instead of 0."""
        return Difference(self.value - bound, self.variance, self.freedom)

    def reversed(self) -> Difference:
        """The difference the other way round."""
        return Difference(-self.value, self.variance, self.freedom)


def approval_difference(test: Ballots, control: Ballots, cap: float) -> Difference:
    """Estimate the difference of two approval rates, in [-1, 1].

    Whoever voted on both sides is compared with himself, which cancels how strict he is; the
    weights are Mantel's and Haenszel's (J. Natl. Cancer Inst. 22, 1959), capped. All others make
    one more stratum, whose variance is that between people. So one formula serves a canary, where
    people are on one side each, and versions that follow each other, where they are on both.

    Args:
        test: Votes on the side that is judged.
        control: Votes on the side that it is compared with.
        cap: Votes of one person that count on each side.
    """
    both = (test.votes > 0) & (control.votes > 0)
    weights, values, variances = _within(test, control, cap)
    weights = np.where(both, weights, 0.0)
    alone, apart = _between(test, control, ~both, cap)

    total = weights.sum(-1) + alone
    shares = weights / _or_one(total)[..., None]
    rest = alone / _or_one(total)
    variance = (shares**2 * variances).sum(-1) + rest**2 * apart.variance
    # Satterthwaite: only the variance between people is estimated from few of them.
    grown = variance / _or_one(rest**2 * apart.variance)
    return Difference(
        value=(shares * values).sum(-1) + rest * apart.value,
        variance=np.where(total > 0, variance, np.inf),
        freedom=np.minimum(np.where(alone > 0, apart.freedom * grown**2, _MANY), _MANY),
    )


def share_difference(
    test: tuple[Floats, Floats], control: tuple[Floats, Floats], *, clumping: float
) -> Difference:
    """Estimate the difference of two shares, each given as (cases, of how many).

    Args:
        test: Counts on the side that is judged.
        control: Counts on the side that it is compared with.
        clumping: How many cases that come together say as much as one alone.
    """
    (few_t, all_t), (few_c, all_c) = test, control
    known = (all_t > 0) & (all_c > 0)
    variance = _spread(few_t, all_t) / _or_one(all_t) + _spread(few_c, all_c) / _or_one(all_c)
    return Difference(
        value=few_t / _or_one(all_t) - few_c / _or_one(all_c),
        variance=np.where(known, clumping * variance, np.inf),
        freedom=np.full(np.shape(all_t), _MANY),
    )


def mean_difference(test: Sums, control: Sums, *, factor: float, clumping: float) -> Difference:
    """Estimate mean(test) / mean(control) - factor, from sums; the control's mean is above 0.

    Args:
        test: Sums on the side that is judged.
        control: Sums on the side that it is compared with.
        factor: How many times the control's mean the other may be.
        clumping: How many values that come together say as much as one alone.
    """
    scale = _or_one(control.mean)
    variance = (test.error + factor**2 * control.error) * clumping / scale**2
    known = (test.count > 1) & (control.count > 1) & (control.mean > 0)
    return Difference(
        value=test.mean / scale - factor,
        variance=np.where(known, variance, np.inf),
        freedom=np.full(np.shape(test.count), _MANY),
    )


def log_evidence(difference: Difference, scale: float) -> Floats:
    """Return the log of an e-process against "the difference is 0 or below"; (...).

    While that is true, exp of it exceeds 1/a at any time with a probability of at most a, however
    often one reads it (Ville). It is the one-sided normal mixture of Robbins (Ann. Math. Stat. 41,
    1970; Howard et al., Ann. Stat. 49, 2021, section 3.2) on the estimate's own clock, 1/variance,
    as asymptotic confidence sequences have it (Waudby-Smith et al., Ann. Stat. 52, 2024,
    arXiv:2103.06476). "Asymptotic" means that the estimate must be near normal: few people are
    allowed for by Student's distribution, and bench/judge.py measures what remains.

    Args:
        difference: The estimate.
        scale: How large the differences are that matter; larger or smaller ones take longer.
    """
    z = _as_normal(difference)
    clock = scale**2 / difference.variance
    # Further down the normal tail is 0 in a float, and there is no evidence anyway.
    pull = np.maximum(z * np.sqrt(clock / (1 + clock)), -30.0)
    evidence: Floats = 0.5 * pull**2 - 0.5 * np.log1p(clock) + np.log(2 * _normal_cdf(pull))
    return evidence


def interval(difference: Difference, scale: float, error: float) -> tuple[Floats, Floats]:
    """Return a confidence sequence: with probability ``error`` it ever misses the truth."""
    clock = scale**2 / difference.variance
    with np.errstate(divide="ignore"):
        z = np.sqrt((1 + 1 / clock) * (2 * math.log(1 / error) + np.log1p(clock)))
    half = _from_normal(z, difference.freedom) * np.sqrt(difference.variance)
    return difference.value - half, difference.value + half


def _within(test: Ballots, control: Ballots, cap: float) -> tuple[Floats, Floats, Floats]:
    """Return weight, difference and variance of each person, as if all voted on both sides."""
    up_t, all_t, up_c, all_c = test.up, _or_one(test.votes), control.up, _or_one(control.votes)
    shrunk = (up_t + up_c + 1) / (all_t + all_c + 2)
    pairs = all_t * all_c / (all_t + all_c)
    return (
        np.minimum(pairs, cap / 2),
        up_t / all_t - up_c / all_c,
        shrunk * (1 - shrunk) / pairs,
    )


def _between(
    test: Ballots, control: Ballots, mask: NDArray[np.bool_], cap: float
) -> tuple[Floats, Difference]:
    """Compare the people of one side with those of the other.

    Returns:
        The weight relative to the people on both sides, 0 where a side has fewer than two
        people; and the difference.
    """
    rate_t, variance_t, freedom_t = _of_side(test, mask, cap)
    rate_c, variance_c, freedom_c = _of_side(control, mask, cap)
    known = (freedom_t > 0) & (freedom_c > 0)
    variance = np.where(known, variance_t + variance_c, 1.0)
    parts = variance_t**2 / _or_one(freedom_t) + variance_c**2 / _or_one(freedom_c)
    middle = (rate_t + rate_c) / 2
    spread = np.maximum(middle * (1 - middle), 0.01)
    return np.where(known, spread / variance, 0.0), Difference(
        value=rate_t - rate_c,
        variance=variance,
        freedom=np.where(known, variance**2 / _or_one(parts), 1.0),
    )


def _of_side(side: Ballots, mask: NDArray[np.bool_], cap: float) -> tuple[Floats, Floats, Floats]:
    """Return a side's approval, shrunk a little, its variance, and the freedom of that."""
    weights = np.where(mask, np.minimum(side.votes, cap), 0.0)
    rates = side.up / _or_one(side.votes)
    total = weights.sum(-1)
    people = total**2 / _or_one((weights**2).sum(-1))
    rate = (weights * rates).sum(-1) / _or_one(total)
    apart = (weights**2 * (rates - rate[..., None]) ** 2).sum(-1) / _or_one(total) ** 2
    apart = apart * people / _or_one(people - 1)
    alike = _spread(total * rate, total) * (weights**2 / _or_one(side.votes)).sum(-1)
    return rate, np.maximum(apart, alike / _or_one(total) ** 2), np.maximum(people - 1, 0.0)


def _spread(cases: Floats, total: Floats) -> Floats:
    """Return p (1 - p), never 0: as if one more case had been seen, and one more without."""
    share = (cases + 1) / (total + 2)
    return share * (1 - share)


def _as_normal(difference: Difference) -> Floats:
    """Return the normal deviate that is as rare as Student's t here (Wallace 1959)."""
    t = difference.value / np.sqrt(difference.variance)
    nu = difference.freedom
    size = (8 * nu + 1) / (8 * nu + 3) * np.sqrt(nu * np.log1p(t**2 / nu))
    deviate: Floats = np.sign(t) * size
    return deviate


def _from_normal(z: Floats, nu: Floats) -> Floats:
    """Return Student's t that is as rare as the normal deviate; infinite beyond all bounds."""
    grown = np.minimum((z * (8 * nu + 3) / (8 * nu + 1)) ** 2 / nu, 500.0)
    deviate: Floats = np.sqrt(nu * np.expm1(grown))
    return deviate


def _or_one(value: Floats) -> Floats:
    """Return ``value``, with 1 in place of 0 and less, to divide by."""
    positive: Floats = np.where(value > 0, value, 1.0)
    return positive
