"""What requests may contain and what answers look like: OpenAI's shapes."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from feedback.types import Signal
from models.types import FinishReason, Tool
from service.schemas.bodies import Body, Lenient, without_nulls
from service.schemas.sampled import Sampled, User
from service.schemas.turns import MessageIn, NamedTool, ToolIn

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON cannot say; OpenAI's API has the same convention."""


DEFAULT_TEXT_TOKENS = 16


def only_one(prompt: Any) -> Any:
    """Return the one text of a list."""
    if not isinstance(prompt, list):
        return prompt
    if len(prompt) != 1:
        raise ValueError("Send one text, or a request for each.")
    return prompt[0]


Tag = Annotated[str, Field(min_length=1, max_length=64)]


class JsonSchema(Lenient):
    """A schema with its name, which is OpenAI's and says nothing here."""

    name: Annotated[str, Field(max_length=256)] = ""
    description: str = ""
    strict: bool = True
    content: Annotated[dict[str, Any], Field(alias="schema")]


class ResponseFormat(Lenient):
    """What a reply is: any text, a JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("The type `json_schema` needs `json_schema`.")
        return self


class ChatRequest(Sampled):
    """The body of POST /v1/chat/completions."""

    messages: Annotated[list[MessageIn], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    response_format: ResponseFormat = ResponseFormat(type="text")
    tools: Annotated[tuple[ToolIn, ...], Field(max_length=128, strict=False)] = ()
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    parallel_tool_calls: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("`top_logprobs` needs `logprobs: true`.")
        if self.max_tokens and self.max_completion_tokens not in {None, self.max_tokens}:
            raise ValueError("Send either `max_tokens` or `max_completion_tokens`, not both.")
        names = [each.function.name for each in self.tools]
        if len(names) > len(set(names)):
            raise ValueError("Two of the `tools` have the same name.")
        if self.forces_call and not self.may_call:
            raise ValueError("`tool_choice` names a function that `tools` does not have.")
        if self.forces_call and self.response_format.type != "text":
            raise ValueError("`response_format` does not go with a `tool_choice` that forces one.")
        return self

    @property
    def forces_call(self) -> bool:
        """Whether the reply has to be a call of a tool."""
        return self.tool_choice not in ("none", "auto")

    @property
    def may_call(self) -> tuple[Tool, ...]:
        """The tools that the reply may call."""
        tools = tuple(each.value() for each in self.tools)
        if isinstance(self.tool_choice, NamedTool):
            return tuple(each for each in tools if each.name == self.tool_choice.function.name)
        return () if self.tool_choice == "none" else tools

    @property
    def schema_of_reply(self) -> str:
        """The JSON schema that the reply holds to, as JSON; empty for any text."""
        form = self.response_format
        if form.type == "text":
            return ""
        content = form.json_schema.content if form.json_schema else {"type": "object"}
        return json.dumps(content, sort_keys=False)

    @property
    def reply_limit(self) -> int | None:
        """Most tokens wanted in each reply; None when the request does not say."""
        return self.max_completion_tokens or self.max_tokens


class TextRequest(Sampled):
    """The body of POST /v1/completions: a text to go on with, without a chat template."""

    prompt: Annotated[str, BeforeValidator(only_one), Field(min_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @property
    def reply_limit(self) -> int:
        """Most tokens wanted in each text; OpenAI's default."""
        return self.max_tokens or DEFAULT_TEXT_TOKENS


class FeedbackRequest(Body):
    """The body of PUT /v1/feedback/{id}."""

    thumb: Literal["up", "down"] | None = None
    rating: float | None = None
    comment: Annotated[str, Field(max_length=4000)] | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=16)
    correction: Annotated[str, Field(max_length=32_000)] | None = None
    user: User = ""

    _lenient = model_validator(mode="before")(without_nulls)


class SignalRequest(Body):
    """The body of POST /v1/signals/{id}."""

    signal: Signal
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


class FunctionOut(BaseModel):
    """The function of a call and its arguments, as JSON."""

    name: str
    arguments: str


class ToolCallOut(BaseModel):
    """A call of a tool."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionOut


class ToolCallDelta(ToolCallOut):
    """A call in a stream, where it comes whole."""

    index: int


Finish = FinishReason | Literal["tool_calls"]


class TextLogprobs(BaseModel):
    """Log-probs as requests for texts have them: one entry for each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class ReplyMessage(BaseModel):
    """The assistant's turn; its content is null where it only calls tools."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallOut] | None = None

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what most replies do not have, as OpenAI does."""
        found: dict[str, Any] = handler(self)
        absent = {"reasoning_content", "tool_calls"}
        return {k: each for k, each in found.items() if each is not None or k not in absent}


class ChoiceOut(BaseModel):
    """One reply; ``completion_id`` is what feedback on it names.

    ``feedback_token`` lets a browser vote on it without a key.
    """

    index: int
    completion_id: str
    feedback_token: str | None = None
    message: ReplyMessage
    logprobs: LogprobsOut | None = None
    finish_reason: Finish


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
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(BaseModel):
    """What a chunk adds to one reply; the token comes with the end."""

    index: int
    completion_id: str
    feedback_token: str | None = None
    delta: Delta
    logprobs: LogprobsOut | None = None
    finish_reason: Finish | None = None


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


class TextChoice(BaseModel):
    """One text, or what a chunk adds to it; see ``ChoiceOut``."""

    index: int
    completion_id: str
    feedback_token: str | None = None
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: FinishReason | None = None


class TextCompletionOut(BaseModel):
    """The answer to a request for texts, or one event of its stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
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
