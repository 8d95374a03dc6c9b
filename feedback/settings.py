"""Settings of the record and of the choice of batches."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from feedback.judging.bounds import GuardBounds, JudgeBounds
from feedback.redis_url import canonical
from models.settings import Settings


class JudgeSettings(Settings):
    """Who tries a new version first, and when the judge takes it back (docs/concepts/judge.md)."""

    canary_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the users who try a new version first; 0 = all get it at once.",
    )
    judge_interval: timedelta = Field(
        timedelta(seconds=10),
        ge=timedelta(seconds=1),
        description="How often the judge counts the votes.",
    )
    judge_margin: float = Field(
        0.1, gt=0, lt=1, description="How much lower approval still counts as not worse."
    )
    judge_error: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="Highest probability that a version which is no worse is taken back, however "
        "often the judge checks; and that a version which is worse by the margin is promoted.",
    )
    judge_min_votes: int = Field(
        10, ge=2, description="Votes that each side needs before the judge compares approval."
    )
    judge_user_cap: int = Field(
        3, ge=1, description="Most votes of one person that count with the judge, on each side."
    )
    judge_bounds: Annotated[GuardBounds, NoDecode] = Field(
        GuardBounds(),
        description="How much worse a version may do, such as `errors=0.05, length=4`, however "
        "well it is liked.",
    )

    @property
    def limits(self) -> JudgeBounds:
        """Everything that the judge holds a version to."""
        return JudgeBounds(
            margin=self.judge_margin,
            error=self.judge_error,
            min_votes=self.judge_min_votes,
            user_cap=self.judge_user_cap,
            guards=self.judge_bounds,
        )


class FeedbackSettings(JudgeSettings):
    """Where Redis is, how long records are kept, and when votes make a batch."""

    redis_url: str | None = Field(
        None,
        description="URL of the Redis to use; unset = the embedded one in the data folder. With "
        "`rediss://`, certificate and host name are verified; `?ssl_ca_certs=` names a CA of your "
        "own.",
    )
    durability: Literal["disk", "memory"] = Field(
        "disk",
        description="When a vote is answered: once Redis has it on disk, with 503 where Redis "
        "cannot promise that; or as soon as Redis has it in memory.",
    )
    completion_ttl: timedelta = Field(
        timedelta(days=30),
        gt=timedelta(0),
        description="How long a reply is kept. A vote that no update has learned expires with "
        "its reply.",
    )
    vote_ttl: timedelta = Field(
        timedelta(days=60),
        gt=timedelta(0),
        description="How long a vote is kept after its last change; at least completion_ttl.",
    )
    retention_interval: timedelta = Field(
        timedelta(minutes=1),
        ge=timedelta(seconds=1),
        description="How often workers remove what has expired.",
    )
    trim_unexported: bool = Field(
        False,
        description=(
            "Whether old events are removed from the feedback log before an export has them. By "
            "default they stay, because the log is the only full history of votes."
        ),
    )
    audit_events: int = Field(
        100_000, ge=1000, description="About how many entries of the audit are kept."
    )
    min_votes: int = Field(16, ge=1, description="Waiting votes that start an update.")
    max_votes: int = Field(64, ge=1, description="Most votes in one update.")
    batch_order: Literal["oldest", "newest"] = Field(
        "oldest", description="Which of a user's waiting votes an update learns first."
    )
    max_version_lag: int | None = Field(
        None,
        ge=0,
        description="Most versions that a reply may be behind the live one; votes on older replies "
        "are discarded. Unset = no limit.",
    )
    reward_up: float = Field(1.0, ge=-1, le=1, description="What a thumb up is worth.")
    reward_down: float = Field(-1.0, ge=-1, le=1, description="What a thumb down is worth.")
    rating_neutral: float = Field(
        2.5,
        ge=0,
        le=5,
        description="The rating that is worth 0. Ratings above it rise to 1 at 5, ratings below it "
        "fall to -1 at 0.",
    )
    reward_chosen: float = Field(
        1.0, ge=-1, le=1, description="What the chosen side of a comparison is worth."
    )
    reward_rejected: float = Field(
        -1.0, ge=-1, le=1, description="What the other side of a comparison is worth."
    )
    reward_correction: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="What a correction without a vote is worth to the reply that it corrects. "
        "Unset: such a correction is kept, and no update learns from it.",
    )
    max_user_share: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Largest share of a batch from one user, once the batch has five users.",
    )
    update_interval: timedelta = Field(
        timedelta(0), description="Least time between the starts of two updates."
    )
    lease: timedelta = Field(
        timedelta(seconds=30),
        description="How long a learner that has stopped reporting keeps its run.",
    )
    max_attempts: int = Field(
        3, ge=1, description="Failures after which a batch is quarantined: set aside for good."
    )
    retry_delay: timedelta = Field(
        timedelta(seconds=15),
        ge=timedelta(0),
        description="How long a run waits after a failed attempt.",
    )

    @field_validator("redis_url")
    @classmethod
    def _for_both_clients(cls, value: str | None) -> str | None:
        return value and canonical(value)

    @model_validator(mode="after")
    def _votes_outlive_completions(self) -> Self:
        if self.vote_ttl < self.completion_ttl:
            raise ValueError(
                "vote_ttl is shorter than completion_ttl: a vote would be gone while people can "
                "still vote. Set it to at least completion_ttl."
            )
        return self

    @model_validator(mode="after")
    def _praise_beats_blame(self) -> Self:
        if self.reward_up <= self.reward_down or self.reward_chosen <= self.reward_rejected:
            raise ValueError(
                "The rewards are the wrong way round: set reward_up above reward_down, and "
                "reward_chosen above reward_rejected."
            )
        return self
