"""Pure verdict on a version: is it liked as well as the one before, and does it do no harm?

A verdict may be asked for after every vote: the evidence is valid at any time (evidence.py).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from feedback.judging.evidence import (
    Ballots,
    Difference,
    approval_difference,
    interval,
    log_evidence,
)
from feedback.judging.guards import guards

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from feedback.judging.bounds import JudgeBounds
    from feedback.judging.evidence import Floats
    from feedback.judging.tally import VersionComparison

State = Literal["hold", "promote", "roll_back"]

GUARD_BUDGET = 0.1
"""Each guard's part of the error that is allowed; approval has what the four of them leave."""

APPROVAL_BUDGET = 1 - 4 * GUARD_BUDGET

SCALE = 1.5
"""Differences that evidence is quickest about, in margins: measured by bench/judge.py."""

DRIFT = 0.5
"""Margins that approval may fall from one hour to another, where no canary shows the reason."""

_MOST_MORE = 1000.0
"""Votes that are wanted are not estimated beyond so many times those there are."""


@dataclass(frozen=True, slots=True)
class JudgeVerdict:
    """What to do, and why.

    Attributes:
        votes_needed: While ``hold``: about how many more votes it takes, if votes can decide.
    """

    state: State
    reasons: tuple[str, ...]
    votes_needed: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON has it."""
        return asdict(self)


def judge(comparison: VersionComparison, bounds: JudgeBounds) -> JudgeVerdict:
    """Say whether the test side is to be promoted, rolled back, or watched on.

    Worse in approval, with an error of ``APPROVAL_BUDGET`` of what is allowed, or worse in what a
    guard watches, with an error of ``GUARD_BUDGET`` each: roll back. Shown to be less than the
    margin worse: promote. Where the two sides were not served together, errors and waiting times,
    which depend on the hour too, only withhold the promotion.
    """
    ballots = _ballots(comparison)
    difference = approval_difference(*ballots, bounds.user_cap)
    figures = _figures(comparison, difference, bounds)
    broken = [g for g in guards(comparison, bounds) if g.broken(bounds.error * GUARD_BUDGET)]
    damning = [g.what for g in broken if comparison.together or not g.of_the_moment]
    doubts = [g.what for g in broken if g.what not in damning]
    measured = _in_words(figures)
    if damning:
        return JudgeVerdict("roll_back", tuple(damning), figures=figures)
    enough = min(comparison.test.cast, comparison.control.cast) >= bounds.min_votes
    liking = int(decided(difference, bounds, together=comparison.together)) if enough else 0
    if liking < 0:
        return JudgeVerdict("roll_back", (f"People like it less: {measured}.",), figures=figures)
    if liking > 0:
        reason = f"People like it no less: {measured}."
        if doubts:
            return JudgeVerdict("hold", (reason, *doubts), figures=figures)
        return JudgeVerdict("promote", (reason,), figures=figures)
    needed = votes_needed(comparison, difference, bounds)
    return JudgeVerdict("hold", (_too_few(measured, needed, comparison), *doubts), needed, figures)


def decided(difference: Difference, bounds: JudgeBounds, *, together: bool) -> NDArray[np.int_]:
    """Return -1 where approval is shown to be worse, 1 where not, 0 where votes are too few.

    Where the two sides were not served together, ``DRIFT`` is allowed for what time alone does.
    """
    scale = SCALE * bounds.margin
    lower = difference.reversed().beyond(0.0 if together else DRIFT * bounds.margin)
    worse = log_evidence(lower, scale) >= _threshold(bounds.error * APPROVAL_BUDGET)
    fine = log_evidence(difference.beyond(-bounds.margin), scale) >= _threshold(bounds.error)
    return np.where(worse, -1, np.where(fine, 1, 0))


def votes_needed(
    comparison: VersionComparison, difference: Difference, bounds: JudgeBounds
) -> int | None:
    """Estimate how many more votes decide, if what was measured so far is the truth.

    Returns:
        None when no number of votes on the test side would: the control has too few, and where the
        two are not served together it gets no more.
    """
    test, control = max(comparison.test.cast, 1), max(comparison.control.cast, 1)
    value, variance = float(difference.value), float(difference.variance)
    if not math.isfinite(variance):  # nothing is known yet: suppose that they are alike
        value, variance = 0.0, 0.25 / test + 0.25 / control
    times = np.geomspace(1.0, _MOST_MORE, 400)
    times_control = times if comparison.together else np.ones_like(times)
    # The votes of the smaller side make the larger part of the variance.
    part = control / (test + control)
    grown = variance * (part / times + (1 - part) / times_control)
    there = np.minimum(test * times, control * times_control) >= bounds.min_votes
    found = there & (decided(_sure(value, grown), bounds, together=comparison.together) != 0)
    if not found.any():
        return None
    more = test * (times - 1) + control * (times_control - 1)
    return max(1, math.ceil(float(more[found.argmax()])))


def _sure(value: float, variance: Floats) -> Difference:
    return Difference(np.full_like(variance, value), variance, np.full_like(variance, 1e9))


def _threshold(error: float) -> float:
    return math.log(1 / error)


def _ballots(comparison: VersionComparison) -> tuple[Ballots, Ballots]:
    """Return the votes of both sides, person by person."""
    people = sorted(comparison.test.votes.keys() | comparison.control.votes.keys())
    sides = []
    for tally in (comparison.test, comparison.control):
        counts = np.array([tally.votes.get(each, (0, 0, 0)) for each in people], dtype=np.float64)
        up, down, _ = counts.reshape(-1, 3).T
        sides.append(Ballots(up=up, votes=up + down))
    return sides[0], sides[1]


def _figures(
    comparison: VersionComparison, difference: Difference, bounds: JudgeBounds
) -> dict[str, Any]:
    """Return what the verdict is based on, as JSON has it."""
    figures: dict[str, Any] = {"together": comparison.together}
    for name, tally in (("test", comparison.test), ("control", comparison.control)):
        approval = tally.approval(bounds.user_cap)
        figures[name] = {
            "approval": approval and round(approval.rate, 4),
            "votes": tally.cast,
            "people": tally.people,
            "replies": {**asdict(tally.replies), "first_token": list(tally.replies.first_token)},
        }
    if math.isfinite(float(difference.variance)):
        ends = interval(difference, SCALE * bounds.margin, bounds.error)
        figures["difference"] = round(float(difference.value), 4)
        figures["interval"] = [round(float(np.clip(end, -1, 1)), 4) for end in ends]
    return figures


def _in_words(figures: dict[str, Any]) -> str:
    """Return the approval of both sides in words."""
    test, control = figures["test"], figures["control"]
    if not test["votes"] and not control["votes"]:
        return "neither side has any yet"
    sides = f"{_side(test)}, against {_side(control)}"
    if "interval" not in figures:
        return sides
    low, high = figures["interval"]
    return (
        f"{sides}; person by person the difference is {100 * figures['difference']:+.0f} points "
        f"({100 * low:+.0f} to {100 * high:+.0f})"
    )


def _side(side: Mapping[str, Any]) -> str:
    if side["approval"] is None:
        return "no votes"
    votes, people = side["votes"], side["people"]
    return (
        f"{side['approval']:.0%} of {votes} vote{'s' if votes > 1 else ''} "
        f"by {people} {'people' if people > 1 else 'person'}"
    )


def _too_few(measured: str, needed: int | None, comparison: VersionComparison) -> str:
    if needed is not None:
        return f"About {needed} more votes are needed: {measured}."
    if comparison.together:
        return f"The votes do not show which is liked more: {measured}."
    return (
        "Votes on the newer versions alone cannot show which is liked more, for the confirmed one "
        f"has only {comparison.control.cast}: {measured}. Start a canary to find out."
    )
