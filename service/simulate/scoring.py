"""Approval of a version on fresh replies: pure statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from feedback.wilson import wilson_interval

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Score:
    """How many of a version's fresh replies were liked.

    Attributes:
        votes_before: Votes cast in the simulation when the version was first seen live.
        mean_words: Mean length of the replies, which shows what a taste did to them.
    """

    version: str
    replies: int
    approved: int
    votes_before: int = 0
    mean_words: float = 0.0

    @property
    def approval(self) -> float:
        """Share of the replies that were liked, in [0, 1]; 0 when there are none."""
        return self.approved / self.replies if self.replies else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The Wilson interval of the approval at 95 %."""
        return wilson_interval(self.approved, self.replies)


def pick_versions(seen: Sequence[str], *, base: str, between: int) -> tuple[str, ...]:
    """Return the base, up to ``between`` evenly spaced versions, and the last of ``seen``.

    Args:
        seen: Versions in the order in which they went live; ``base`` may be among them.
        base: The version that every score is compared with.
        between: Most versions to take between the base and the last.
    """
    adapted = [version for version in dict.fromkeys(seen) if version != base]
    if not adapted:
        return (base,)
    *middle, last = adapted
    count = min(between, len(middle))
    step = len(adapted) / (count + 1)
    picked = [middle[round(step * i) - 1] for i in range(1, count + 1)]
    return (base, *dict.fromkeys(picked), last)
