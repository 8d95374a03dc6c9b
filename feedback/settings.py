"""Settings of the record and of the choice of batches."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import NoDecode

from feedback.judging.bounds import GuardBounds, JudgeBounds
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
        description="How often the judge looks at the votes.",
    )
    judge_margin: float = Field(
        0.1, gt=0, lt=1, description="How much lower approval still counts as not worse."
    )
    judge_error: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="Most probability that a version which is no worse is taken back, over all "
        "looks; and that one which is the margin worse is promoted.",
    )
    judge_min_votes: int = Field(
        10, ge=2, description="Votes on both sides before the judge says anything of approval."
    )
    judge_user_cap: int = Field(
        3, ge=1, description="Most votes of one person that weigh with the judge, on each side."
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
        None, description="Redis to use; unset = the embedded one in the data folder."
    )
    durability: Literal["disk", "memory"] = Field(
        "disk",
        description="Answer a vote once Redis has it on disk, and 503 if it cannot promise that; "
        "or as soon as Redis has it in memory.",
    )
    completion_ttl: timedelta = Field(
        timedelta(days=30),
        gt=timedelta(0),
        description="How long a completion is kept; a vote waits no longer to be learned.",
    )
    vote_ttl: timedelta = Field(
        timedelta(days=60),
        gt=timedelta(0),
        description="How long a vote can be read after its last change; at least completion_ttl.",
    )
    retention_interval: timedelta = Field(
        timedelta(minutes=1),
        ge=timedelta(seconds=1),
        description="How often workers sweep out what has expired.",
    )
    trim_unexported: bool = Field(
        False,
        description=(
            "Whether old events leave the feedback log although no export has them. By default "
            "they stay: the log is the only full history of votes."
        ),
    )
    audit_events: int = Field(
        100_000, ge=1000, description="Entries of the audit that are kept, about."
    )
    min_votes: int = Field(16, ge=1, description="Waiting votes that start an update.")
    max_votes: int = Field(64, ge=1, description="Most votes in one update.")
    batch_order: Literal["oldest", "newest"] = Field(
        "oldest", description="Which of a user's waiting votes an update learns first."
    )
    max_version_lag: int | None = Field(
        None,
        ge=0,
        description="Votes on replies that are more versions behind the live one are discarded; "
        "unset = none are.",
    )
    replay_runs: int = Field(
        20, ge=1, description="Earlier updates in which votes to learn once more are looked for."
    )
    reward_up: float = Field(1.0, ge=-1, le=1, description="What a thumb up is worth.")
    reward_down: float = Field(-1.0, ge=-1, le=1, description="What a thumb down is worth.")
    rating_neutral: float = Field(
        2.5,
        ge=0,
        le=5,
        description="The rating that is worth 0; from it ratings rise to 1 at 5, fall to -1 at 0.",
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
        description="What a correction alone is worth to the reply that it corrects; unset, it is "
        "no vote: it is kept, and no update learns from it.",
    )
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
    retry_delay: timedelta = Field(
        timedelta(seconds=15),
        ge=timedelta(0),
        description="How long a run rests after a failed attempt.",
    )

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
                "The rewards are upside down: set reward_up above reward_down, and reward_chosen "
                "above reward_rejected."
            )
        return self
