"""The turns of a conversation and the tools that it offers, as chat clients send them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from models.types import Message, Role, Tool, ToolCall
from service.schemas.bodies import Body, Lenient

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


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


class ToolPart(Body):
    """Base of what tools consist of; other fields say nothing here."""

    model_config = ConfigDict(extra="ignore", strict=True)


class FunctionIn(ToolPart):
    """A function that the assistant may call; its parameters are the JSON schema of an object."""

    name: ToolName
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class ToolIn(ToolPart):
    """A tool that is offered."""

    type: Literal["function"] = "function"
    function: FunctionIn

    def value(self) -> Tool:
        """Return the tool as the models folder takes it."""
        function = self.function
        parameters = {"type": "object", "properties": {}, **function.parameters}
        return Tool(function.name, function.description, parameters)


class CalledFunction(ToolPart):
    """A function with the arguments of one call, as JSON."""

    name: ToolName
    arguments: str = "{}"


class ToolCallIn(ToolPart):
    """A call of a tool, sent back as the client got it."""

    id: Annotated[str, Field(max_length=256)] = ""
    type: Literal["function"] = "function"
    function: CalledFunction

    def value(self) -> ToolCall:
        """Return the call as the models folder takes it."""
        return ToolCall(self.id, self.function.name, self.function.arguments)


class NamedFunction(ToolPart):
    """The name of a function."""

    name: str


class NamedTool(ToolPart):
    """The tool that the assistant has to call."""

    type: Literal["function"] = "function"
    function: NamedFunction


class MessageIn(Lenient):
    """One turn, as sent. An assistant's turn without content is empty."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, BeforeValidator(joined_parts)]
    reasoning_content: str = ""
    tool_calls: Annotated[tuple[ToolCallIn, ...], Field(strict=False)] = ()
    tool_call_id: Annotated[str, Field(max_length=256)] = ""

    @model_validator(mode="before")
    @classmethod
    def _perhaps_empty(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        thought = data.get("reasoning_content", data.get("reasoning"))
        data = {name: each for name, each in data.items() if name not in _THOUGHT}
        if data.get("role") != "assistant":
            return data
        if isinstance(thought, str):
            data["reasoning_content"] = thought
        return {**data, "content": data.get("content") or ""}

    @model_validator(mode="after")
    def _of_role(self) -> Self:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("Only a turn of the assistant has `tool_calls`.")
        return self

    def value(self) -> Message:
        """Return the turn as the models folder takes it."""
        role: Role = "system" if self.role == "developer" else self.role
        calls = tuple(each.value() for each in self.tool_calls)
        answers = self.tool_call_id if role == "tool" else ""
        return Message(role, self.content, self.reasoning_content, calls, answers)


_THOUGHT = frozenset({"reasoning", "reasoning_content"})
"""What servers call a thought; clients send it back."""
