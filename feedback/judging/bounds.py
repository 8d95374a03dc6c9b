"""What the judge counts as worse."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, FiniteFloat

from models.bounds import NamedBounds


class GuardBounds(NamedBounds):
    """What a version must not make worse, however well it is liked."""

    errors: FiniteFloat = Field(
        0.02, gt=0, lt=1, description="How much the share of failed replies may rise."
    )
    slow: FiniteFloat = Field(
        0.15, gt=0, lt=1, description="How much the share of slow first tokens may rise."
    )
    withdrawn: FiniteFloat = Field(
        0.1, gt=0, lt=1, description="How much the share of withdrawn votes may rise."
    )
    length: FiniteFloat = Field(
        3.0, gt=1, description="How many times as long as before replies may be."
    )


@dataclass(frozen=True, slots=True)
class JudgeBounds:
    """What counts as worse. Shares are of replies or votes, in [0, 1].

    Attributes:
        margin: How much lower approval "not worse" may be.
        error: Most probability of taking back a version that is not worse, however often the judge
            reads the votes.
        min_votes: Votes on each side before there is a verdict.
        user_cap: Votes of one person that count on each side.
        guards: What else must not get worse.
    """

    margin: float
    error: float
    min_votes: int
    user_cap: int
    guards: GuardBounds
