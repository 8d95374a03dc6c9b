"""Chat requests that make no sense, ask for what there is not, or are too large."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import RunningApp, SayHi, StartApp

pytestmark = pytest.mark.anyio

CHAT = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}]}
URL = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"min_p": 1.1}, "min_p"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"five": 1}}, "logit_bias.five.[key]"),
        ({"logit_bias": {"03": 1}}, "logit_bias.03.[key]"),
        ({"top_k": 2**31}, "top_k"),
        ({"seed": 2**63}, "seed"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a"}}] * 2}, None),
        ({"tool_choice": "required"}, None),
        ({"tool_choice": {"type": "function", "function": {"name": "a"}}}, None),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
            "messages.0.tool_calls.0.function",
        ),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"top_k": -2}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"n": 5}, "n"),
        ({"n": 0}, "n"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop.0"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"top_logprobs": 2}, None),
        ({"max_tokens": 5, "max_completion_tokens": 6}, None),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages.0.role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content",
        ),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"user": "u" * 257}, "user"),
        ({"stream": "yes"}, "stream"),
    ],
)
async def test_what_would_change_the_reply_is_refused(
    running: RunningApp, generator: FakeGenerator, fields: Any, param: str | None, chat: SayHi
) -> None:
    response = await chat(running, **fields)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]
    assert generator.requests == []


async def test_an_unsupported_field_is_named(running: RunningApp, chat: SayHi) -> None:
    error = (await chat(running, functions=[{"name": "f"}])).json()["error"]
    assert error["code"] == "unsupported_parameter"
    assert "functions" in error["message"]


async def test_a_conversation_that_is_too_long_is_told_the_numbers(
    service_settings: ServiceSettings,
    generator: FakeGenerator,
    store: Store,
    chat: SayHi,
    start_app: StartApp,
) -> None:
    settings = service_settings.model_copy(update={"long_replies": "refuse"})
    messages = [{"role": "user", "content": "x" * 190}]
    async with start_app(settings, generator, store) as running:
        response = await chat(running, messages=messages, max_tokens=11)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "messages"
    for number in ("200", "201", "190", "11"):
        assert number in error["message"]


async def test_a_prompt_that_fills_the_context_is_refused(running: RunningApp, chat: SayHi) -> None:
    messages = [{"role": "user", "content": "x" * 200}]
    response = await chat(running, messages=messages)
    assert response.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("model", ["gpt-5", "policy@v000009-000000000009", ""])
async def test_an_unknown_model_is_404(running: RunningApp, model: str, chat: SayHi) -> None:
    response = await chat(running, model=model)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert response.json()["error"]["param"] == "model"


@pytest.mark.parametrize(
    "version", ["", "../../x", "/etc", "v1", "V000001-000000000001", "v000001-000000000001/.."]
)
async def test_what_cannot_be_a_version_is_400(
    running: RunningApp, version: str, chat: SayHi
) -> None:
    response = await chat(running, model=f"policy@{version}")
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_version"
    assert response.json()["error"]["param"] == "model"


async def test_a_body_over_the_limit_is_413(
    start_app: StartApp, service_settings: ServiceSettings, generator: FakeGenerator, store: Store
) -> None:
    settings = service_settings.model_copy(update={"max_body_bytes": 1024})

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b'{"a": "' + b"x" * 100

    async with start_app(settings, generator, store) as running:
        json_type = {"content-type": "application/json"}
        declared = await running.client.post(URL, content=b"x" * 1025, headers=json_type)
        chunked = await running.client.post(URL, content=pieces(), headers=json_type)
    for response in (declared, chunked):
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"model": "policy", "messages": ' + b'[{"a":' * 50_000,
        b'{"model": "policy", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "policy", "messages": [{"role": "user", "content": "x"}], "\\ud800": 1}',
        b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "policy", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "policy", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"model": "policy", "messages": [{"role": "user", "content": "x"}], "seed": '
        + b"9" * 5000
        + b"}",
    ],
)
async def test_a_body_that_is_no_request_is_the_clients_fault(
    running: RunningApp, content: Any
) -> None:
    response = await running.client.post(
        URL, content=content, headers={"content-type": "application/json"}
    )
    assert 400 <= response.status_code < 500
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}])
async def test_a_body_of_another_type_is_refused(
    running: RunningApp, headers: dict[str, str]
) -> None:
    # Browsers send such bodies to other sites without asking first.
    response = await running.client.post(URL, content=json.dumps(CHAT), headers=headers)
    assert response.status_code == 400
