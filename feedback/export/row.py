"""The columns of the layout ``records``, and what a row must be so that an import takes it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from feedback.types import Side, Thumb, VoteState
from models.types import FinishReason, Role  # noqa: TC001 - pydantic reads them
from models.versions import is_version_id

RecordState = Literal[VoteState, "withdrawn", "deleted"]
TOMBSTONES: frozenset[RecordState] = frozenset({"withdrawn", "deleted"})
"""States of rows that only say that a vote is no more."""


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a surrogate pair") from error
    return text


Text = Annotated[str, AfterValidator(_whole)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class MessagePart(_Part):
    """One message of the prompt."""

    role: Role
    content: Text


class SamplingPart(_Part):
    """How the reply was sampled."""

    temperature: Annotated[float, Field(ge=0)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    stop: list[Text]
    seed: int | None
    top_k: Annotated[int, Field(ge=0)]


class ComparisonPart(_Part):
    """The side that the reply is on, and the id of the other reply."""

    side: Side
    other: Text


Id = Annotated[str, Field(pattern=r"^chatcmpl-[A-Za-z0-9._-]{1,200}$")]
"""Only what a completion's id can be: others could name a key that is no vote."""

TokenIds = list[Annotated[int, Field(ge=0)]]


class RecordRow(_Part):
    """A row of the layout ``records``, the columns in their order."""

    id: Id
    state: RecordState
    revision: Annotated[int, Field(ge=1)]
    updated_at: Annotated[float, Field(ge=0)]
    learned_by: Text | None
    owner: Annotated[Text, Field(pattern=r"^[^:]+$")] | None
    user: Text | None
    version: Text | None
    thumb: Thumb | None
    rating: float | None
    comparison: ComparisonPart | None
    comment: Text | None
    tags: list[Text] | None
    correction: Text | None
    score: Annotated[float, Field(ge=-1, le=1)] | None
    scored_revision: Annotated[int, Field(ge=1)] | None
    voted_at: Annotated[float, Field(ge=0)] | None
    reason: Text | None
    returned: Annotated[int, Field(ge=0)]
    conversation: Text | None
    messages: list[MessagePart] | None
    reply: Text | None
    finish_reason: FinishReason | None
    prompt_ids: TokenIds | None
    response_ids: TokenIds | None
    behaviour_logprobs: list[float] | None
    sampling: SamplingPart | None
    metadata: dict[Text, Text] | None
    created_at: Annotated[float, Field(ge=0)] | None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.state in TOMBSTONES:
            return self
        self._check(_VOTE, "a vote that stands needs it")
        there = [name for name in _COMPLETION if getattr(self, name) is not None]
        if there:
            self._check(_COMPLETION, f"it is missing although {there[0]} is there")
        if len(self.response_ids or ()) != len(self.behaviour_logprobs or ()):
            raise ValueError("behaviour_logprobs: not as many as response_ids")
        if self.state == "learned" and self.learned_by is None:
            raise ValueError("learned_by: a learned vote needs it")
        return self

    @model_validator(mode="after")
    def _names_versions(self) -> Self:
        for name in ("version", "learned_by"):
            version = getattr(self, name)
            if version is not None and not is_version_id(version):
                raise ValueError(f"{name}: {version!r} is not a policy version")
        return self

    def _check(self, names: tuple[str, ...], why: str) -> None:
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{missing[0]}: {why}")


_VOTE = ("owner", "user", "version", "tags", "scored_revision", "voted_at")
_COMPLETION = (
    "conversation",
    "messages",
    "reply",
    "finish_reason",
    "prompt_ids",
    "response_ids",
    "behaviour_logprobs",
    "sampling",
    "metadata",
    "created_at",
)
