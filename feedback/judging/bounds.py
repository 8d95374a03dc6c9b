"""What the judge counts as worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feedback.settings import JudgeSettings


@dataclass(frozen=True, slots=True)
class Bounds:
    """What counts as worse. Shares are of replies or votes, in [0, 1].

    Attributes:
        margin: How much lower approval "not worse" may be.
        error: Most probability of taking back a version that is not worse, over all looks.
        min_votes: Votes on each side before there is a verdict.
        user_cap: Votes of one person that count on each side.
        errors: How much the share of failed replies may rise.
        slow: How much the share of slow first tokens may rise.
        withdrawn: How much the share of withdrawn votes may rise.
        length: How many times as long replies may be.
    """

    margin: float
    error: float
    min_votes: int
    user_cap: int
    errors: float
    slow: float
    withdrawn: float
    length: float

    @classmethod
    def from_settings(cls, settings: JudgeSettings) -> Bounds:
        """Return the bounds that the settings name."""
        return cls(
            margin=settings.judge_margin,
            error=settings.judge_error,
            min_votes=settings.judge_min_votes,
            user_cap=settings.judge_user_cap,
            errors=settings.judge_max_errors,
            slow=settings.judge_max_slow,
            withdrawn=settings.judge_max_withdrawn,
            length=settings.judge_max_length,
        )
