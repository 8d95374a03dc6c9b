"""What a vote is worth: the scalar in [-1, 1] that the learner sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from feedback.settings import FeedbackSettings
    from feedback.types import Vote

MOST_STARS = 5.0


@dataclass(frozen=True, slots=True)
class RewardScale:
    """What each kind of vote is worth; the settings hold every reward in [-1, 1].

    Attributes:
        neutral: The rating that is worth 0. Below it ratings fall evenly to -1 at 0 stars, above
            it they rise evenly to +1 at 5.
        correction: What a correction alone says of the reply that it corrects; None: nothing.
    """

    up: float = 1.0
    down: float = -1.0
    neutral: float = 2.5
    chosen: float = 1.0
    rejected: float = -1.0
    correction: float | None = None

    @classmethod
    def from_settings(cls, settings: FeedbackSettings) -> Self:
        """Return the scale that the settings describe."""
        return cls(
            up=settings.reward_up,
            down=settings.reward_down,
            neutral=settings.rating_neutral,
            chosen=settings.reward_chosen,
            rejected=settings.reward_rejected,
            correction=settings.reward_correction,
        )


DEFAULT_SCALE = RewardScale()


def reward(vote: Vote, scale: RewardScale = DEFAULT_SCALE) -> float | None:
    """Return what a vote is worth; None when there is nothing to learn from."""
    if vote.thumb is not None:
        return scale.up if vote.thumb == "up" else scale.down
    if vote.comparison is not None:
        return scale.chosen if vote.comparison.side == "chosen" else scale.rejected
    if vote.rating is not None:
        return _rated(vote.rating, scale.neutral)
    return scale.correction if vote.correction else None


def _rated(rating: float, neutral: float) -> float:
    """Return the place of a rating between the end of the scale on its side and ``neutral``."""
    if rating == neutral:
        return 0.0
    return (rating - neutral) / (MOST_STARS - neutral if rating > neutral else neutral)
