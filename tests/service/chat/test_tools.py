"""Tools and thoughts over HTTP: what is offered, what is called, and what is recorded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from models.errors import ToolsUnsupportedError
from models.types import Message, ReplyStyle, ToolCall

if TYPE_CHECKING:
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import ReadEvents, RunningApp, SayHi

pytestmark = pytest.mark.anyio

HI = {"role": "user", "content": "Hi"}
PARAMETERS = {"type": "object", "properties": {"a": {"type": ["integer", "null"], "default": None}}}
ADD = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": PARAMETERS, "strict": True},
}
SUB = {"type": "function", "function": {"name": "sub", "description": None}}
NAMED = {"type": "function", "function": {"name": "sub"}}
CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


async def test_a_call_is_read_and_the_record_has_what_the_model_wrote(
    running: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    generator.texts["base"] = f"Well.\n{CALL}"
    body = (await chat(running, tools=[ADD, SUB])).json()
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"].pop("tool_calls")
    assert choice["message"] == {"role": "assistant", "content": "Well.", "refusal": None}
    assert call.pop("id").startswith("call_")
    assert call == {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    assert generator.tools[0].parameters == PARAMETERS
    assert "<tool_call>" in generator.requests[0].shown
    record = await running.runtime.store.completions.get(body["id"])
    assert record is not None
    assert record.text == f"Well.\n{CALL}"
    assert "".join(map(chr, record.response_ids[:-1])) == record.text
    assert record.finish_reason == "stop"
    read = (await running.client.get(f"/v1/chat/completions/{body['id']}")).json()
    assert read["choices"][0]["message"]["content"] == "Well."
    assert read["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_stream_has_each_call_as_a_delta(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, events: ReadEvents
) -> None:
    generator.texts["base"] = f"{CALL}\n{CALL}"
    lines = events(await chat(running, tools=[ADD], stream=True))
    chunks = [json.loads(line)["choices"][0] for line in lines[:-1]]
    calls = [each for chunk in chunks for each in chunk["delta"].get("tool_calls", [])]
    assert [each["index"] for each in calls] == [0, 1]
    assert calls[0]["id"] != calls[1]["id"]
    assert {each["function"]["name"] for each in calls} == {"add"}
    assert {each["type"] for each in calls} == {"function"}
    assert "".join(chunk["delta"].get("content") or "" for chunk in chunks) == ""
    assert chunks[-1]["finish_reason"] == "tool_calls"


async def test_only_the_first_call_where_they_are_not_parallel(
    running: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    generator.texts["base"] = f"{CALL}\n{CALL}"
    body = (await chat(running, tools=[ADD], parallel_tool_calls=False)).json()
    assert len(body["choices"][0]["message"]["tool_calls"]) == 1


async def test_a_malformed_call_is_text_and_is_counted(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, events: ReadEvents
) -> None:
    generator.texts["base"] = '<tool_call>{"name": "add"'
    whole = (await chat(running, tools=[ADD])).json()["choices"][0]
    assert whole["message"]["content"] == generator.texts["base"]
    assert whole["finish_reason"] == "stop"
    lines = events(await chat(running, tools=[ADD], stream=True))
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines[:-1]]
    assert "".join(each.get("content", "") for each in deltas) == generator.texts["base"]
    metrics = (await running.client.get("/metrics")).text
    assert 'thumbloop_malformed_tool_calls_total{version="base"} 2.0' in metrics


async def test_tools_are_not_offered_where_the_choice_is_none(
    running: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    generator.texts["base"] = CALL
    body = (await chat(running, tools=[ADD], tool_choice="none")).json()
    assert body["choices"][0]["message"]["content"] == CALL
    assert generator.tools == ()


@pytest.mark.parametrize(("choice", "names"), [("required", ["add", "sub"]), (NAMED, ["sub"])])
async def test_a_call_that_has_to_be_is_held_to_its_schema(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, choice: Any, names: list[str]
) -> None:
    generator.texts["base"] = '{"name": "sub", "arguments": {"a": 2}}'
    body = (await chat(running, tools=[ADD, SUB], tool_choice=choice)).json()
    (call,) = body["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "sub", "arguments": '{"a": 2}'}
    schemas = json.loads(generator.requests[0].schema)["anyOf"]
    assert [each["properties"]["name"]["const"] for each in schemas] == names


async def test_turns_of_tools_reach_the_template_and_the_record(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Message] = []

    def encode(turns: tuple[Message, ...], _: object) -> tuple[int, ...]:
        seen.extend(turns)
        return (1,)

    monkeypatch.setattr(generator, "encode_chat", encode)
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    turns = [
        HI,
        {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "Hm."},
        {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "3"},
    ]
    body = (await chat(running, messages=turns)).json()
    assert seen == [
        Message("user", "Hi"),
        Message("assistant", "", "Hm.", (ToolCall("c1", "add", "{}"),)),
        Message("tool", "3", tool_call_id="c1"),
    ]
    record = await running.runtime.store.completions.get(body["id"])
    assert record is not None
    assert record.messages == tuple(seen)


async def test_a_base_without_tools_is_a_400(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ToolsUnsupportedError("The chat template of this base model has no tools.")

    monkeypatch.setattr(generator, "encode_chat", refuse)
    response = await chat(running, tools=[ADD])
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("tools_unsupported", "tools")


@pytest.mark.parametrize("opened", [False, True])
async def test_a_thought_is_split_off(
    running: RunningApp,
    generator: FakeGenerator,
    chat: SayHi,
    events: ReadEvents,
    opened: bool,
) -> None:
    generator.style = ReplyStyle(thinks=True, opened=opened)
    generator.texts["base"] = ("" if opened else "<think>") + "Hm.\n</think>\n\nHello!"
    message = (await chat(running)).json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm.", "Hello!")
    lines = events(await chat(running, stream=True))
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines[:-1]]
    assert "".join(each.get("reasoning_content", "") for each in deltas) == "Hm."
    assert "".join(each.get("content", "") for each in deltas) == "Hello!"


async def test_a_plain_reply_has_no_fields_of_tools(running: RunningApp, chat: SayHi) -> None:
    message = (await chat(running)).json()["choices"][0]["message"]
    assert set(message) == {"role", "content", "refusal"}
