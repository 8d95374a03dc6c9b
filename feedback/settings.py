"""Settings of the record and of the choice of batches."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from models.settings import Settings


class FeedbackSettings(Settings):
    """Where Redis is, how long records are kept, and when votes make a batch."""

    redis_url: str | None = Field(
        None, description="Redis to use; unset = the embedded one in the data folder."
    )
    completion_ttl: timedelta = Field(
        timedelta(days=30), description="How long a completion, and so its vote, is kept."
    )
    min_votes: int = Field(16, ge=1, description="Waiting votes that start an update.")
    max_votes: int = Field(64, ge=1, description="Most votes in one update.")
    max_user_share: float = Field(
        0.25, gt=0, le=1, description="Most of a batch from one user, once five users are in it."
    )
    update_interval: timedelta = Field(
        timedelta(0), description="Least time between the starts of two updates."
    )
    lease: timedelta = Field(
        timedelta(seconds=30), description="How long a silent learner keeps its run."
    )
    max_attempts: int = Field(3, ge=1, description="Failures that quarantine a batch.")
