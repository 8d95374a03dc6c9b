"""What chat clients and front ends send beyond OpenAI's fields, or as nulls and constants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from models.errors import ChatTemplateError

if TYPE_CHECKING:
    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import RunningApp, SayHi, StartApp

pytestmark = pytest.mark.anyio

HI = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    "fields",
    [
        {"stream_options": {"include_usage": None}, "stream": True},
        {"stream_options": {"include_usage": True, "include_obfuscation": True}, "stream": True},
        {"metadata": {"page": None}},
        {"messages": [HI, {"role": "assistant", "content": None}, HI]},
        {"messages": [HI, {"role": "assistant"}, HI]},
        {"messages": [{**HI, "name": "ann"}]},
        {"messages": [HI, {"role": "assistant", "content": "x", "reasoning_content": ""}, HI]},
        {"messages": [HI, {"role": "assistant", "content": "x", "refusal": None}, HI]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "x": None}]}]},
        {"reasoning_effort": "none"},
        {"verbosity": "low"},
        {"service_tier": "flex"},
        {"prompt_cache_key": "k"},
        {"repetition_penalty": 1},
        {"min_p": 0},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}},
        {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}},
        {"seed": -1},
        {"user": None, "stop": None, "seed": None, "logit_bias": None, "stream_options": None},
    ],
    ids=str,
)
async def test_what_asks_for_nothing_is_taken(
    running: RunningApp, chat: SayHi, fields: dict[str, Any]
) -> None:
    response = await chat(running, **fields)
    assert response.status_code == 200, response.text
    assert "x-ignored-fields" not in response.headers


async def test_a_field_that_openai_does_not_have_is_ignored_and_named(
    running: RunningApp, chat: SayHi
) -> None:
    messages = [{**HI, "files": [], "timestamp": 5}]
    fields = {"session_id": "s", 'a"\r\nset-cookie: x': 1, "chat_id": "c"}
    for stream in (False, True):
        response = await chat(running, messages=messages, stream=stream, **fields)
        assert response.status_code == 200
        assert set(response.headers["x-ignored-fields"].split(", ")) == {
            "session_id",
            "chat_id",
            'a\\"\\r\\nset-cookie: x',
            "messages.0.files",
            "messages.0.timestamp",
        }
        assert "set-cookie" not in response.headers


async def test_an_operator_may_have_it_refused(
    service_settings: ServiceSettings,
    generator: FakeGenerator,
    store: Store,
    chat: SayHi,
    start_app: StartApp,
) -> None:
    settings = service_settings.model_copy(update={"unknown_fields": "refuse"})
    async with start_app(settings, generator, store) as running:
        response = await chat(running, messages=[{**HI, "timestamp": 5}])
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", "messages.0.timestamp")


async def test_what_is_longer_than_the_context_is_cut_to_what_fits(
    running: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        assert (await chat(running, **{name: 4096})).status_code == 200
        assert generator.requests[-1].sampling.max_tokens == generator.context_length - 2
    response = await chat(running, messages=[{**HI, "content": "x" * 200}], max_tokens=4096)
    assert response.status_code == 400
    assert "200" in response.json()["error"]["message"]


async def test_the_safety_identifier_is_the_person_where_no_user_is_named(
    running: RunningApp, store: Store, chat: SayHi
) -> None:
    async def person(**fields: str) -> str:
        reply = (await chat(running, **fields)).json()
        (record,) = await store.completions.get_many([reply["id"]])
        assert record is not None
        return record.person.user

    assert await person(safety_identifier="hash-of-ann") == "hash-of-ann"
    assert await person(safety_identifier="hash-of-ann", user="ann") == "ann"


async def test_penalties_bias_and_min_p_reach_the_engine_and_the_record(
    running: RunningApp, generator: FakeGenerator, store: Store, chat: SayHi
) -> None:
    fields = {
        "min_p": 0.1,
        "presence_penalty": 0.5,
        "frequency_penalty": -1,
        "repetition_penalty": 1.1,
        "logit_bias": {"5": -100, "7": 2.5},
        "seed": -1,
    }
    reply = (await chat(running, **fields)).json()
    sampling = generator.requests[0].sampling
    assert sampling.logit_bias == ((5, -100.0), (7, 2.5))
    assert (sampling.min_p, sampling.presence_penalty) == (0.1, 0.5)
    assert (sampling.frequency_penalty, sampling.repetition_penalty) == (-1.0, 1.1)
    assert sampling.seed is None
    (record,) = await store.completions.get_many([reply["id"]])
    assert record is not None
    assert record.sampling == sampling


async def test_an_event_is_one_line_for_every_reader(
    running: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    said = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\nh\ri"
    generator.texts["base"] = said
    for extra in ({}, {"logprobs": True}):
        text = (await chat(running, stream=True, **extra)).content.decode()
        events = [line for line in text.splitlines() if line]
        assert all(line.startswith("data: ") for line in events)
        chunks = [json.loads(line.removeprefix("data: ")) for line in events[:-1]]
        assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == said


async def test_what_a_template_refuses_is_answered_in_its_own_words(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> tuple[int, ...]:
        raise ChatTemplateError("The model's chat template refuses this: Roles must alternate!")

    monkeypatch.setattr(generator, "encode_chat", refuse)
    response = await chat(running, messages=[HI, HI])
    assert response.status_code == 400
    error = response.json()["error"]
    assert "Roles must alternate!" in error["message"]
    assert (error["code"], error["param"]) == ("refused_by_template", "messages")


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({"type": "text"}, ""),
        ({"type": "json_object"}, {"type": "object"}),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": None}}},
            {"const": None},
        ),
        (
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "x",
                    "strict": True,
                    "description": None,
                    "schema": {"properties": {"a": {"enum": [None, "b"]}}},
                },
            },
            {"properties": {"a": {"enum": [None, "b"]}}},
        ),
    ],
)
async def test_the_schema_of_a_reply_reaches_the_engine_as_it_is(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, form: dict[str, Any], schema: Any
) -> None:
    assert (await chat(running, response_format=form)).status_code == 200
    asked = generator.requests[0].schema
    assert (json.loads(asked) if asked else "") == schema


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": "x"}}, "response_format.json_schema"),
    ],
)
async def test_a_form_that_there_is_not_is_refused(
    running: RunningApp, chat: SayHi, form: dict[str, Any], param: str
) -> None:
    response = await chat(running, response_format=form)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(param)
