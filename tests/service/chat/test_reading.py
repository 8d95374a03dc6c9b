"""What is read in a reply: thoughts and calls of tools, in the styles of four kinds of model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.types import ReplyStyle, Tool
from service.chat.reading import ReplyParts, ReplyReader, read_reply
from service.chat.tool_calls import calls_schema

if TYPE_CHECKING:
    from models.types import ToolStyle

TOOLS = [Tool("add"), Tool("weather")]
ADD = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
WEATHER = '{"name": "weather", "parameters": {"city": "Zürich"}}'
BROKEN = '{"name": "add", "arguments": {"a": 1'
UNKNOWN = '{"name": "rm", "arguments": {}}'


def read(text: str, style: ReplyStyle) -> tuple[str, str, list[tuple[str, object]]]:
    parts = read_reply(text, style, TOOLS, "r")
    calls = [(each.name, json.loads(each.arguments)) for each in parts.calls]
    return parts.content, parts.reasoning, calls


ADDED = ("add", {"a": 1, "b": 2})
ASKED = ("weather", {"city": "Zürich"})


@pytest.mark.parametrize(
    ("style", "text", "content", "calls"),
    [
        ("hermes", f"<tool_call>\n{ADD}\n</tool_call>", "", [ADDED]),
        ("hermes", f"Well.\n<tool_call>{ADD}</tool_call>\n", "Well.", [ADDED]),
        (
            "hermes",
            f"<tool_call>{ADD}</tool_call>\n<tool_call>{WEATHER}</tool_call>",
            "",
            [ADDED, ASKED],
        ),
        ("hermes", f"<tool_call>{ADD}", "", [ADDED]),
        ("hermes", f"a <tool_call>{BROKEN}</tool_call> b", None, []),
        ("hermes", f"<tool_call>{UNKNOWN}</tool_call>", None, []),
        ("hermes", f"<tool_call>{BROKEN}", None, []),
        ("hermes", f"{ADD}", None, []),
        ("hermes", " 3 < 4 <tool \n", None, []),
        ("llama", WEATHER, "", [ASKED]),
        ("llama", f"<|python_tag|>{ADD}; {WEATHER}", "", [ADDED, ASKED]),
        ("llama", f"Let me see. <|python_tag|>{ADD}", "Let me see.", [ADDED]),
        ("llama", '{"answer": 42}', None, []),
        ("llama", "<|python_tag|>print(1)", None, []),
        ("llama", f"I would say {ADD}", None, []),
        ("mistral", f"[TOOL_CALLS] [{ADD}, {WEATHER}]", "", [ADDED, ASKED]),
        ("mistral", '[TOOL_CALLS]add[ARGS]{"a": 1, "b": 2}', "", [ADDED]),
        ("mistral", '[TOOL_CALLS]add{"a": 1, "b": 2}', "", [ADDED]),
        (
            "mistral",
            '[TOOL_CALLS]add{"a": 1, "b": 2}[TOOL_CALLS]weather[CALL_ID]x1[ARGS]{"city": "Zürich"}',
            "",
            [ADDED, ASKED],
        ),
        ("mistral", f"[TOOL_CALLS] [{ADD}", None, []),
        ("json", ADD, "", [ADDED]),
        ("json", '{"name": "add", "arguments": "{\\"a\\": 1, \\"b\\": 2}"}', "", [ADDED]),
        ("json", '{"name": "add", "arguments": {"a": NaN}}', None, []),
        ("json", '{"name": "add", "arguments": {"a": "\\ud800"}}', None, []),
        ("json", '{"name": "add", "arguments": []}', None, []),
        ("json", "[" * 5000, None, []),
    ],
)
def test_calls_are_read_and_what_is_no_call_stays_text(
    style: ToolStyle, text: str, content: str | None, calls: list[tuple[str, object]]
) -> None:
    expected = text if content is None else content
    assert read(text, ReplyStyle(tools=style)) == (expected, "", calls)


@pytest.mark.parametrize(
    ("style", "text", "malformed"),
    [
        ("hermes", f"<tool_call>{BROKEN}</tool_call> <tool_call>{ADD}</tool_call>", 1),
        ("hermes", f"<tool_call>{UNKNOWN}</tool_call>", 1),
        ("hermes", "Hi", 0),
        ("llama", '{"answer": 42}', 0),
        ("llama", BROKEN, 1),
        ("mistral", "[TOOL_CALLS]add", 1),
        ("json", "{", 1),
    ],
)
def test_malformed_calls_are_counted(style: ToolStyle, text: str, malformed: int) -> None:
    reader = ReplyReader(ReplyStyle(tools=style), {"add", "weather"}, "r")
    reader.push(text)
    reader.finish()
    assert reader.malformed == malformed


def test_only_the_first_call_is_given_where_calls_are_not_parallel() -> None:
    text = f"<tool_call>{ADD}</tool_call><tool_call>{WEATHER}</tool_call>"
    assert read(text, ReplyStyle(tools="hermes", parallel=False)) == ("", "", [ADDED])
    both = f"[TOOL_CALLS][{ADD}, {WEATHER}]"
    assert read(both, ReplyStyle(tools="mistral", parallel=False)) == ("", "", [ADDED])


@pytest.mark.parametrize(
    ("opened", "text", "content", "reasoning"),
    [
        (False, "<think>\nHm.\n</think>\n\nHi!", "Hi!", "Hm."),
        (False, "\n<think>Hm.</think>Hi!\n", "Hi!\n", "Hm."),
        (False, "Hi <think>!", "Hi <think>!", ""),
        (False, "<thin", "<thin", ""),
        (False, "<think>I was cut", "", "I was cut"),
        (False, "<think>\n\n</think>\n\nHi!", "Hi!", ""),
        (True, "Hm.\n\nWell.\n</think>\n\nHi! ", "Hi! ", "Hm.\n\nWell."),
        (True, "I was cut </thi", "", "I was cut </thi"),
    ],
)
def test_thoughts_are_kept_apart(opened: bool, text: str, content: str, reasoning: str) -> None:
    style = ReplyStyle(thinks=True, opened=opened)
    assert read(text, style) == (content, reasoning, [])


def test_a_tool_can_be_called_after_a_thought() -> None:
    thought = "<think>\nNo </tool_call> yet.\n</think>\n\n"
    hermes = ReplyStyle(thinks=True, tools="hermes")
    assert read(f"{thought}<tool_call>{ADD}</tool_call>", hermes) == (
        "",
        "No </tool_call> yet.",
        [ADDED],
    )
    llama = ReplyStyle(thinks=True, tools="llama")
    assert read(f"{thought}{WEATHER}", llama) == ("", "No </tool_call> yet.", [ASKED])


PIECES = (
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>"),
    *("{", "}", "<", "</", "[", " ", "\n", "Hi", "é", ADD, WEATHER, BROKEN, f"[{ADD}]"),
)
STYLES = st.builds(
    ReplyStyle,
    thinks=st.booleans(),
    opened=st.just(value=False),
    tools=st.sampled_from([None, "hermes", "llama", "mistral", "json"]),
)


@given(texts=st.lists(st.sampled_from(PIECES), max_size=8), style=STYLES, data=st.data())
def test_a_stream_gives_what_the_whole_gives(
    texts: list[str], style: ReplyStyle, data: st.DataObject
) -> None:
    text = "".join(texts)
    reader, streamed = ReplyReader(style, {"add", "weather"}, "r"), ReplyParts()
    while text:
        size = data.draw(st.integers(1, 9))
        streamed.add(reader.push(text[:size]))
        text = text[size:]
    streamed.add(reader.finish())
    assert streamed == read_reply("".join(texts), style, TOOLS, "r")


@given(texts=st.lists(st.sampled_from(PIECES), max_size=8), style=STYLES)
def test_nothing_that_a_model_wrote_is_lost(texts: list[str], style: ReplyStyle) -> None:
    text = "".join(texts)
    parts = read_reply(text, style, TOOLS, "r")
    kept = "".join((parts.content + parts.reasoning).split())
    if not parts.calls:
        gone = "".join(text.split())
        for sign in ("<think>", "</think>") if style.thinks else ():
            gone, kept = gone.replace(sign, ""), kept.replace(sign, "")
        assert kept == gone


def test_ids_of_calls_can_be_made_again_and_suit_mistral() -> None:
    style = ReplyStyle(tools="mistral")
    (first,), (again,) = (
        read_reply(f"[TOOL_CALLS][{ADD}]", style, TOOLS, "chatcmpl-1").calls for _ in range(2)
    )
    (other,) = read_reply(f"[TOOL_CALLS][{ADD}]", style, TOOLS, "chatcmpl-2").calls
    assert first == again
    assert first.id != other.id
    assert len(first.id) == 9
    assert first.id.isalnum()


def test_references_within_parameters_hold_in_the_schema_of_a_call() -> None:
    parameters = {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "integer"}}}
    schema = json.loads(calls_schema([Tool("add"), Tool("sub", "", parameters)]))
    moved = schema["anyOf"][1]["properties"]["arguments"]["properties"]["a"]["$ref"]
    assert moved == "#/anyOf/1/properties/arguments/$defs/A"
    found: object = schema
    for step in moved.removeprefix("#/").split("/"):
        found = found[int(step) if isinstance(found, list) else step]  # type: ignore[index]
    assert found == {"type": "integer"}


@pytest.mark.parametrize(
    ("said", "held"),
    [
        ({}, False),
        ({"additionalProperties": True}, True),
        ({"allOf": [{"properties": {"b": {}}}]}, None),
    ],
)
def test_other_arguments_than_those_named_need_to_be_allowed(
    said: dict[str, object], held: bool | None
) -> None:
    schema = json.loads(calls_schema([Tool("add", "", {"properties": {"a": {}}, **said})]))
    arguments = schema["anyOf"][0]["properties"]["arguments"]
    assert arguments.get("additionalProperties") is held
