"""The columns of the layout ``records``, and what a row must be so that an import takes it."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from feedback.types import Side, Thumb  # noqa: TC001 - pydantic reads them
from feedback.vote_record import TOMBSTONES, RecordState
from models.types import FinishReason, Role  # noqa: TC001 - pydantic reads them
from models.versions import is_version_id


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a surrogate pair") from error
    return text


Text = Annotated[str, AfterValidator(_whole)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


_ROUNDING = 1e-3
"""How far above 0 a log-prob may be that was computed in 16 bits."""


class CallPart(_Part):
    """A call of a tool by the assistant; the arguments are JSON."""

    id: Text
    name: Text
    arguments: Text


class MessagePart(_Part):
    """One message of the prompt."""

    role: Role
    content: Text


class TurnPart(MessagePart):
    """One message with all that may be part of it."""

    reasoning: Text = ""
    tool_calls: list[CallPart] = []
    tool_call_id: Text = ""


class SamplingPart(_Part):
    """How the reply was sampled."""

    temperature: Annotated[float, Field(ge=0)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    stop: list[Text]
    seed: int | None
    top_k: Annotated[int, Field(ge=0)]
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    logit_bias: list[list[float]] = []


class ComparisonPart(_Part):
    """The side that the reply is on, and the id of the other reply."""

    side: Side
    other: Text


Id = Annotated[str, Field(pattern=r"^chatcmpl-[A-Za-z0-9._-]{1,200}$")]
"""Only what a completion's id can be: others could name a key that is no vote."""

TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
Logprobs = list[Annotated[float, Field(le=_ROUNDING)]]


def _says(description: str) -> Any:
    """Return a column that every row has, if only with null; what it says is for the docs."""
    return Field(description=description)


class RecordRow(_Part):
    """A row of the layout ``records``: the one list of its columns, in their order.

    What an import checks, the types in Parquet (``feedback.export.schema``) and the page
    ``docs/reference/columns.md`` follow from it.
    """

    id: Id = _says("The completion that was voted on.")
    state: RecordState = _says(
        "`pending`, `claimed`, `learned`, `expired`, `discarded`; `withdrawn` or `deleted`."
    )
    revision: Annotated[int, Field(ge=1)] = _says("Rises with every change of the vote.")
    updated_at: Annotated[float, Field(ge=0)] = _says("When the vote last changed.")
    learned_by: Text | None = _says(
        "The version that learned the vote; of a withdrawn or deleted one, that had."
    )
    owner: Annotated[Text, Field(pattern=r"^[^:]+$")] | None = _says(
        "The public id of the API key that asked; `open` where there was none."
    )
    user: Text | None = _says("The request's `user`.")
    version: Text | None = _says("The version that wrote the reply.")
    thumb: Thumb | None = _says("`up` or `down`.")
    rating: float | None = _says("0 to 5, in steps of 0.5.")
    comparison: ComparisonPart | None = _says(
        "`side`, `chosen` or `rejected`, and `other`, the other reply's id."
    )
    comment: Text | None = _says("What the person wrote of the reply.")
    tags: list[Text] | None = _says("The tags of the vote.")
    correction: Text | None = _says("What the person would rather have read.")
    score: Annotated[float, Field(ge=-1, le=1)] | None = _says(
        "The reward that the vote became, -1 to 1; null where there is nothing to learn."
    )
    scored_revision: Annotated[int, Field(ge=1)] | None = _says(
        "The revision that last changed the score."
    )
    voted_at: Annotated[float, Field(ge=0)] | None = _says("When the score last changed.")
    reason: Text | None = _says("Why the vote was discarded, or expired.")
    returned: Annotated[int, Field(ge=0)] = _says(
        "How often the vote went back to waiting, as a version was refused or taken back."
    )
    conversation: Text | None = _says("The request's conversation; empty where it named none.")
    messages: list[TurnPart] | None = _says("The prompt.")
    reply: Text | None = _says("The reply's text.")
    finish_reason: FinishReason | None = _says("`stop` or `length`.")
    prompt_ids: TokenIds | None = _says("The tokens of the prompt.")
    response_ids: TokenIds | None = _says("The tokens of the reply.")
    behaviour_logprobs: Logprobs | None = _says(
        "The log-prob of each token of the reply when it was drawn, in nats."
    )
    policy_logprobs: Logprobs | None = Field(
        None,
        description="The same under the policy alone, where it was drawn from something else, as "
        "with `top_p`; empty where it was not.",
    )
    forced: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, description="The places of tokens that a grammar forced; they teach nothing."
    )
    sampling: SamplingPart | None = _says("How the reply was drawn.")
    metadata: dict[Text, Text] | None = _says("The request's `metadata`; in Parquet as JSON.")
    created_at: Annotated[float, Field(ge=0)] | None = _says("When the reply was written.")
    signals: dict[Text, float] | None = Field(
        None,
        description="What the reader did with the reply, such as `copied`, each with its first "
        "time; in Parquet as JSON.",
    )

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
        if self.policy_logprobs and len(self.policy_logprobs) != len(self.response_ids or ()):
            raise ValueError("policy_logprobs: not as many as response_ids")
        if self.forced and max(self.forced) >= len(self.response_ids or ()):
            raise ValueError("forced: a place beyond the end of response_ids")
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


COLUMNS = tuple(RecordRow.model_fields)
_VOTE = ("owner", "user", "version", "tags", "scored_revision", "voted_at")
_COMPLETION = tuple(
    name
    for name in COLUMNS[COLUMNS.index("conversation") :]
    if name not in {"policy_logprobs", "forced", "signals"}
)
