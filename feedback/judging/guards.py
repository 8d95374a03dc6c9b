"""What a version must not make worse, however well it is liked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from feedback.judging.evidence import (
    Difference,
    Sums,
    log_evidence,
    mean_difference,
    share_difference,
)

if TYPE_CHECKING:
    from feedback.judging.bounds import JudgeBounds
    from feedback.judging.evidence import Floats
    from feedback.judging.tally import Replies, VersionComparison

CLUMPING = 2.0
"""Replies of one moment go alike: so many of them say as much as one alone."""

_SLOW = 0.9
"""The slow first tokens are those beyond this share of the control's."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One thing that a version must not make worse.

    Attributes:
        what: What to say when it did.
        difference: How far it is beyond what is allowed.
        scale: The excess that evidence is quickest about.
        of_the_moment: Whether it depends on the hour as well as on the version.
    """

    what: str
    difference: Difference
    scale: float
    of_the_moment: bool

    def broken(self, error: float) -> bool:
        """Whether it is shown to be worse than allowed, with at most this probability of error."""
        return bool(log_evidence(self.difference, self.scale) >= math.log(1 / error))


def guards(comparison: VersionComparison, bounds: JudgeBounds) -> list[Guard]:
    """Return what a version is watched for besides approval."""
    test, control = comparison.test.replies, comparison.control.replies
    ratio = mean_difference(
        _sums(test), _sums(control), factor=bounds.guards.length, clumping=CLUMPING
    )
    return [
        _share(
            "Failed replies",
            (test.errors, test.requests),
            (control.errors, control.requests),
            bounds.guards.errors,
            of_the_moment=True,
        ),
        _share(
            "Slow first tokens",
            _slow(test, control),
            _slow(control, control),
            bounds.guards.slow,
            of_the_moment=True,
        ),
        _share(
            "Withdrawn votes",
            comparison.test.withdrawals(bounds.user_cap),
            comparison.control.withdrawals(bounds.user_cap),
            bounds.guards.withdrawn,
            of_the_moment=False,
        ),
        Guard(
            f"Replies are {ratio.value + bounds.guards.length:.1f} times as long; at most "
            f"{bounds.guards.length:g} times is allowed.",
            ratio,
            bounds.guards.length,
            of_the_moment=False,
        ),
    ]


def _share(
    what: str,
    test: tuple[int, int],
    control: tuple[int, int],
    rise: float,
    *,
    of_the_moment: bool,
) -> Guard:
    """Return the guard of a share, given as (cases, of how many) on each side."""
    difference = share_difference(_floats(test), _floats(control), clumping=CLUMPING)
    shares = [f"{cases / total if total else 0:.1%}" for cases, total in (test, control)]
    what = f"{what} rose to {shares[0]} from {shares[1]}; {rise:.0%} more is allowed."
    return Guard(what, difference.beyond(rise), 2 * rise, of_the_moment)


def _slow(replies: Replies, control: Replies) -> tuple[int, int]:
    """Return how many first tokens were later than most of the control's, and of how many."""
    most, so_far, edge = _SLOW * sum(control.first_token), 0, 0
    while edge < len(control.first_token) - 1 and so_far + control.first_token[edge] < most:
        so_far += control.first_token[edge]
        edge += 1
    return sum(replies.first_token[edge + 1 :]), sum(replies.first_token)


def _floats(counts: tuple[int, int]) -> tuple[Floats, Floats]:
    return np.asarray(float(counts[0])), np.asarray(float(counts[1]))


def _sums(replies: Replies) -> Sums:
    count = replies.requests - replies.errors
    return Sums(
        *(np.asarray(float(each)) for each in (count, replies.tokens, replies.squared_tokens))
    )
