"""What requests may contain and what answers look like: OpenAI's shapes, checked strictly.

A field of OpenAI's API that would change the reply and is not supported here is refused. It is
let through only where its value asks for nothing (``tools: []``), or where it cannot change the
reply (``prompt_cache_key``). ``top_k`` is not OpenAI's; other servers take it too.
"""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from models.types import FinishReason, Message, Role, Sampling

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    # An assistant's message, sent back as the client got it.
    "tool_calls": ([],),
    "annotations": ([],),
}
"""Values of unsupported fields that ask for nothing."""

HARMLESS = frozenset({"prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls"})
"""Unsupported fields that cannot change a reply."""

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot say; OpenAI's API has the same convention."""

LEAST_TEMPERATURE = 0.01
"""Below it the most probable token is drawn, as at 0."""


def without_nulls(data: Any) -> Any:
    """Drop nulls: they ask for the default."""
    if not isinstance(data, dict):
        return data
    return {name: value for name, value in data.items() if value is not None}


def without_neutral(data: Any) -> Any:
    """Drop nulls, fields that ask for nothing, and fields that cannot change the reply."""
    if not isinstance(data, dict):
        return data
    return {
        name: value
        for name, value in without_nulls(data).items()
        if value not in NEUTRAL.get(name, ()) and name not in HARMLESS
    }


def joined_parts(content: Any) -> Any:
    """Turn a message's list of text parts into one text."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise ValueError("Only parts of the type `text` are supported.")
        if not isinstance(part.get("text"), str):
            raise ValueError("A part of the type `text` needs a string `text`.")  # noqa: TRY004
        texts.append(part["text"])
    return "\n".join(texts)


def as_list(stop: Any) -> Any:
    """Turn a single stop string into a list."""
    return [stop] if isinstance(stop, str) else stop


def or_greedy(temperature: float) -> float:
    """Return 0 for temperatures so low that logits divided by them are no longer useful numbers."""
    return 0.0 if temperature < LEAST_TEMPERATURE else temperature


def whole_text(data: Any) -> Any:
    """Refuse half of a surrogate pair: JSON can hold it, but no tokenizer or store takes it."""
    if not isinstance(data, dict):
        return data
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "The text holds half of a surrogate pair; send whole characters."
        ) from error
    except RecursionError as error:
        raise ValueError("The body is nested too deeply.") from error
    return data


class Body(BaseModel):
    """Base of all request bodies: no unknown fields, no conversions, valid Unicode."""

    model_config = ConfigDict(extra="forbid", strict=True)

    _whole = model_validator(mode="before")(whole_text)


User = Annotated[str, Field(max_length=256)]
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class MessageIn(Body):
    """One turn, as sent."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(joined_parts)]

    _lenient = model_validator(mode="before")(without_neutral)

    def value(self) -> Message:
        """Return the turn as the models folder takes it."""
        role: Role = "system" if self.role == "developer" else self.role
        return Message(role, self.content)


class StreamOptions(Body):
    """How a stream ends."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class ChatRequest(Body):
    """The body of POST /v1/chat/completions."""

    model: str
    messages: Annotated[list[MessageIn], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2), AfterValidator(or_greedy)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1)] = 0
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=256)]],
        Field(max_length=4),
        BeforeValidator(as_list),
    ] = []
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=4)] = 1
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    user: User = ""
    metadata: Annotated[
        dict[
            Annotated[str, Field(max_length=64)],
            Annotated[str, Field(max_length=512)],
        ],
        Field(max_length=16),
    ] = {}
    store: bool = True

    _lenient = model_validator(mode="before")(without_neutral)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("`top_logprobs` needs `logprobs: true`.")
        if self.max_tokens and self.max_completion_tokens not in {None, self.max_tokens}:
            raise ValueError("Send either `max_tokens` or `max_completion_tokens`, not both.")
        return self

    def sampling(self, max_tokens: int) -> Sampling:
        """Return how tokens are drawn; a ``top_k`` of -1 sets no limit, as 0 does."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=max_tokens,
            stop=tuple(self.stop),
            seed=self.seed,
            top_k=max(0, self.top_k),
        )

    @property
    def reply_limit(self) -> int | None:
        """Most tokens wanted in each reply; None when the request does not say."""
        return self.max_completion_tokens or self.max_tokens


class FeedbackRequest(Body):
    """The body of PUT /v1/feedback/{id}."""

    thumb: Literal["up", "down"] | None = None
    rating: float | None = None
    comment: Annotated[str, Field(max_length=4000)] | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=16)
    correction: Annotated[str, Field(max_length=32_000)] | None = None
    user: User = ""

    _lenient = model_validator(mode="before")(without_nulls)


class ComparisonRequest(Body):
    """The body of PUT /v1/comparisons/{chosen_id}."""

    rejected_id: Annotated[str, Field(min_length=1, max_length=256)]
    comment: Annotated[str, Field(max_length=4000)] | None = None
    user: User = ""

    _lenient = model_validator(mode="before")(without_nulls)


class TopLogprobOut(BaseModel):
    """A token and its log-prob; a character can be spread over the ``bytes`` of several tokens."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobOut(TopLogprobOut):
    """A generated token with the alternatives to it."""

    top_logprobs: list[TopLogprobOut]


class LogprobsOut(BaseModel):
    """One entry for each generated token, the end-of-sequence token included."""

    content: list[TokenLogprobOut]
    refusal: None = None


class ReplyMessage(BaseModel):
    """The assistant's turn."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChoiceOut(BaseModel):
    """One reply; ``completion_id`` is what feedback on it names."""

    index: int
    completion_id: str
    message: ReplyMessage
    logprobs: LogprobsOut | None = None
    finish_reason: FinishReason


class Usage(BaseModel):
    """Token counts; with ``n`` > 1 the completions' are added up."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletionOut(BaseModel):
    """The answer to a chat request without streaming."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChoiceOut]
    usage: Usage
    recorded: bool
    metadata: dict[str, str] | None = None


class Delta(BaseModel):
    """What a chunk adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(BaseModel):
    """What a chunk adds to one reply."""

    index: int
    completion_id: str
    delta: Delta
    logprobs: LogprobsOut | None = None
    finish_reason: FinishReason | None = None


class ChatChunkOut(BaseModel):
    """One event of a stream; ``recorded`` comes with the end of each reply."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    recorded: bool | None = None


class ComparedOut(BaseModel):
    """A vote's part in a comparison: the side it is on, and the completion on the other."""

    side: Literal["chosen", "rejected"]
    other: str


class FeedbackOut(BaseModel):
    """A current vote."""

    completion_id: str
    thumb: Literal["up", "down"] | None
    rating: float | None
    comparison: ComparedOut | None
    comment: str | None
    tags: list[str]
    correction: str | None
    score: float | None
    revision: int
    state: str
    version: str | None
    reason: str | None
    updated_at: float


class ComparisonOut(BaseModel):
    """A comparison, and the current vote on either side.

    ``rejected`` is null once that vote was withdrawn; ``whole`` tells whether both sides still are
    this comparison.
    """

    chosen_id: str
    rejected_id: str
    comment: str | None
    whole: bool
    chosen: FeedbackOut
    rejected: FeedbackOut | None
