from __future__ import annotations

import asyncio
import json
import math
import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feedback.events import Person
from feedback.store import Store
from models.types import Message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from service.settings import ServiceSettings

pytestmark = pytest.mark.anyio

V1 = "v000001-000000000001"
V2 = "v000002-000000000002"
V3 = "v000003-000000000003"
URL = "/v1/chat/completions"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "policy", "messages": [{"role": "user", "content": "Hi"}], **fields}


def events(response: httpx.Response) -> list[str]:
    lines = [line for line in response.text.splitlines() if line.startswith("data: ")]
    return [line.removeprefix("data: ") for line in lines]


async def test_a_reply_has_openais_shape_and_names_its_version(running: Any) -> None:
    response = await running.client.post(URL, json=body())
    assert response.status_code == 200
    assert response.headers["x-policy-version"] == "base"
    reply = response.json()
    assert reply["id"].startswith("chatcmpl-")
    assert reply["object"] == "chat.completion"
    assert reply["system_fingerprint"] == "base"
    assert reply["recorded"] is True
    assert reply["choices"] == [
        {
            "index": 0,
            "completion_id": reply["id"],
            "message": {"role": "assistant", "content": "I am base", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert reply["usage"] == {"prompt_tokens": 2, "completion_tokens": 10, "total_tokens": 12}


async def test_the_record_holds_what_the_learner_needs(running: Any, store: Store) -> None:
    fields = body(
        user="ann",
        temperature=0.7,
        top_p=0.9,
        seed=5,
        stop="###",
        max_tokens=20,
        metadata={"conversation_id": "c1", "page": "home"},
    )
    reply = (await running.client.post(URL, json=fields)).json()
    record = await store.completions.get_owned(reply["id"], Person("open", "ann"))
    assert record.messages == (Message("user", "Hi"),)
    assert record.text == "I am base"
    assert record.version == "base"
    assert record.prompt_ids == (72, 105)
    assert record.response_ids == (*map(ord, "I am base"), 0)
    assert record.behaviour_logprobs == pytest.approx([math.log(0.5)] * 10)
    assert record.conversation == "c1"
    assert record.metadata == {"conversation_id": "c1", "page": "home"}
    sampling = record.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.7, 0.9, 5)
    assert (sampling.stop, sampling.max_tokens) == (("###",), 20)
    assert record.finish_reason == "stop"


async def test_a_stream_opens_adds_ends_and_is_done(running: Any) -> None:
    response = await running.client.post(
        URL, json=body(stream=True, stream_options={"include_usage": True})
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-policy-version"] == "base"
    *chunks, done = events(response)
    assert done == "[DONE]"
    chunks = [json.loads(chunk) for chunk in chunks]
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    assert {chunk["system_fingerprint"] for chunk in chunks} == {"base"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1])
    assert text == "I am base"
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None] * 10 + ["stop"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-2]["recorded"] is True
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 2, "completion_tokens": 10, "total_tokens": 12}
    assert chunks[-1]["recorded"] is True


async def test_a_stream_without_usage_says_nothing_of_it(running: Any) -> None:
    response = await running.client.post(URL, json=body(stream=True))
    chunks = [json.loads(chunk) for chunk in events(response)[:-1]]
    assert all("usage" not in chunk for chunk in chunks)


async def test_each_of_several_choices_is_a_completion(running: Any, store: Store) -> None:
    reply = (await running.client.post(URL, json=body(n=3, seed=10))).json()
    ids = [choice["completion_id"] for choice in reply["choices"]]
    assert ids == [f"{reply['id']}.{index}" for index in range(3)]
    records = await store.completions.get_many(ids)
    assert [record.sampling.seed for record in records] == [10, 11, 12]
    assert reply["usage"]["completion_tokens"] == 30


async def test_streamed_choices_are_told_apart(running: Any) -> None:
    response = await running.client.post(URL, json=body(n=2, stream=True))
    texts = ["", ""]
    for chunk in map(json.loads, events(response)[:-1]):
        choice = chunk["choices"][0]
        assert choice["completion_id"] == f"{chunk['id']}.{choice['index']}"
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["I am base", "I am base"]


async def test_logprobs_name_each_token_and_its_alternatives(running: Any, generator: Any) -> None:
    generator.texts["base"] = "é"
    reply = (await running.client.post(URL, json=body(logprobs=True, top_logprobs=2))).json()
    first, end = reply["choices"][0]["logprobs"]["content"]
    assert first["token"] == "é"
    assert first["bytes"] == [0xC3, 0xA9]
    assert first["logprob"] == pytest.approx(math.log(0.5))
    assert [other["token"] for other in first["top_logprobs"]] == ["é", "A"]
    assert first["top_logprobs"][1]["logprob"] == -9999.0
    assert end["token"] == "<end>"


async def test_streamed_logprobs_come_with_their_text(running: Any) -> None:
    response = await running.client.post(URL, json=body(logprobs=True, stream=True))
    tokens = [
        token["token"]
        for chunk in map(json.loads, events(response)[:-1])
        for token in (chunk["choices"][0].get("logprobs") or {"content": []})["content"]
    ]
    assert tokens == [*"I am base", "<end>"]


async def test_parts_and_developer_messages_reach_the_model_as_text(
    running: Any, store: Store
) -> None:
    messages = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "ab", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "c"},
    ]
    reply = (await running.client.post(URL, json=body(messages=messages))).json()
    record = await store.completions.get(reply["id"])
    assert record.messages == (
        Message("system", "Be kind."),
        Message("user", "a\nb"),
        Message("assistant", "ab"),
        Message("user", "c"),
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"top_k": 5}, "top_k"),
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
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "x", "name": "n"}]}, "messages.0.name"),
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
    running: Any, generator: Any, fields: Any, param: str | None
) -> None:
    response = await running.client.post(URL, json=body(**fields))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]
    assert generator.requests == []


async def test_fields_that_ask_for_nothing_are_let_through(running: Any) -> None:
    fields = {
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "logit_bias": None,
        "parallel_tool_calls": True,
        "stop": None,
        "seed": None,
        "user": None,
        "stream_options": None,
    }
    assert (await running.client.post(URL, json=body(**fields))).status_code == 200


async def test_an_unsupported_field_is_named(running: Any) -> None:
    error = (await running.client.post(URL, json=body(top_k=5))).json()["error"]
    assert error["code"] == "unsupported_parameter"
    assert "top_k" in error["message"]


async def test_a_conversation_that_is_too_long_is_told_the_numbers(running: Any) -> None:
    messages = [{"role": "user", "content": "x" * 190}]
    response = await running.client.post(URL, json=body(messages=messages, max_tokens=11))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "messages"
    for number in ("200", "201", "190", "11"):
        assert number in error["message"]


@pytest.mark.parametrize(("prompt", "limit"), [(10, 190), (199, 1)])
async def test_a_reply_gets_the_room_that_is_left(
    running: Any, generator: Any, prompt: int, limit: Any
) -> None:
    messages = [{"role": "user", "content": "x" * prompt}]
    await running.client.post(URL, json=body(messages=messages))
    assert generator.requests[0].sampling.max_tokens == limit


async def test_a_prompt_that_fills_the_context_is_refused(running: Any) -> None:
    messages = [{"role": "user", "content": "x" * 200}]
    response = await running.client.post(URL, json=body(messages=messages))
    assert response.json()["error"]["code"] == "context_length_exceeded"


async def test_max_tokens_cuts_the_reply(running: Any) -> None:
    reply = (await running.client.post(URL, json=body(max_completion_tokens=4))).json()
    assert reply["choices"][0]["message"]["content"] == "I am"
    assert reply["choices"][0]["finish_reason"] == "length"


async def test_a_version_can_be_pinned(running: Any, store: Store) -> None:
    reply = (await running.client.post(URL, json=body(model=f"policy@{V2}"))).json()
    assert reply["system_fingerprint"] == V2
    assert reply["choices"][0]["message"]["content"] == f"I am {V2}"
    assert (await store.completions.get(reply["id"])).version == V2


@pytest.mark.parametrize(
    "model",
    ["gpt-5", "policy@v000009-000000000009", "policy@../../x", "policy@", "", "policy@/etc"],
)
async def test_an_unknown_model_is_404(running: Any, model: str) -> None:
    response = await running.client.post(URL, json=body(model=model))
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert response.json()["error"]["param"] == "model"


async def test_pinned_versions_are_unloaded_when_others_were_asked_for(
    start_app: Any, service_settings: ServiceSettings, generator: Any, store: Store
) -> None:
    settings = service_settings.model_copy(update={"pinned_versions": 2})
    async with start_app(settings, generator, store) as running:
        for version in (V1, V2, V3):
            await running.client.post(URL, json=body(model=f"policy@{version}"))
        await running.runtime.watcher.look()
        assert generator.loaded() == {"base", V2, V3}


@pytest.mark.parametrize("stream", [False, True])
async def test_without_redis_the_chat_goes_on(
    start_app: Any, service_settings: ServiceSettings, generator: Any, away: Store, stream: bool
) -> None:
    (service_settings.data_dir / "live.json").write_text('{"keyed": false}')
    async with start_app(service_settings, generator, away) as running:
        response = await running.client.post(URL, json=body(stream=stream))
        assert response.status_code == 200
        if stream:
            assert json.loads(events(response)[-2])["recorded"] is False
            return
        reply = response.json()
        assert reply["choices"][0]["message"]["content"] == "I am base"
        assert reply["recorded"] is False
        vote = await running.client.put(f"/v1/feedback/{reply['id']}", json={"thumb": "up"})
        assert vote.status_code == 503
        assert vote.json()["error"]["code"] == "store_unavailable"


async def test_a_redis_that_never_answers_delays_a_reply_only_so_long(
    start_app: Any, service_settings: ServiceSettings, generator: Any
) -> None:
    (service_settings.data_dir / "live.json").write_text('{"keyed": false}')
    settings = service_settings.model_copy(
        update={"record_timeout": timedelta(seconds=0.2), "poll_interval": timedelta(seconds=60)}
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_store = Store.connect(f"redis://127.0.0.1:{silent.getsockname()[1]}", settings)
        async with start_app(settings, generator, silent_store) as running:
            started = time.monotonic()
            reply = (await running.client.post(URL, json=body())).json()
            assert time.monotonic() - started < 1.0
            assert reply["recorded"] is False
    await silent_store.close()


async def test_a_reply_that_was_not_recorded_says_so_when_it_is_voted_on(running: Any) -> None:
    reply = (await running.client.post(URL, json=body(store=False, user="ann"))).json()
    assert reply["recorded"] is False
    url = f"/v1/feedback/{reply['id']}"
    vote = await running.client.put(url, json={"thumb": "up", "user": "ann"})
    assert vote.status_code == 404
    assert vote.json()["error"]["code"] == "not_recorded"
    other = await running.client.put(url, json={"thumb": "up", "user": "bob"})
    assert other.json()["error"]["code"] == "completion_not_found"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 2])
async def test_a_full_queue_asks_to_come_back(
    running: Any, generator: Any, stream: bool, n: int
) -> None:
    generator.max_running = n - 1
    response = await running.client.post(URL, json=body(stream=stream, n=n))
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["error"]["code"] == "queue_full"
    assert generator.running == 0


async def test_an_engine_that_breaks_in_mid_stream_ends_the_stream_with_an_error(
    running: Any, generator: Any, store: Store
) -> None:
    generator.fail_after = 3
    response = await running.client.post(URL, json=body(stream=True))
    *_, last = events(response)
    assert json.loads(last)["error"]["code"] == "engine_unavailable"
    assert await store.completions.get(json.loads(events(response)[0])["id"]) is None


async def test_an_engine_that_breaks_answers_503(running: Any, generator: Any) -> None:
    generator.fail_after = 3
    response = await running.client.post(URL, json=body())
    assert response.status_code == 503


async def test_a_stored_completion_is_its_owners(running: Any) -> None:
    reply = (await running.client.post(URL, json=body(user="ann", metadata={"a": "b"}))).json()
    url = f"{URL}/{reply['id']}"
    found = (await running.client.get(url, params={"user": "ann"})).json()
    assert found["id"] == reply["id"]
    assert found["choices"][0]["message"]["content"] == "I am base"
    assert found["metadata"] == {"a": "b"}
    unknown = await running.client.get(f"{URL}/chatcmpl-none", params={"user": "ann"})
    foreign = await running.client.get(url, params={"user": "bob"})
    assert unknown.status_code == foreign.status_code == 404
    assert foreign.json()["error"]["code"] == unknown.json()["error"]["code"]
    deleted = await running.client.delete(url, params={"user": "ann"})
    assert deleted.json() == {
        "id": reply["id"],
        "object": "chat.completion.deleted",
        "deleted": True,
    }
    assert (await running.client.get(url, params={"user": "ann"})).status_code == 404


async def test_a_body_over_the_limit_is_413(
    start_app: Any, service_settings: ServiceSettings, generator: Any, store: Store
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
async def test_a_body_that_is_no_request_is_the_clients_fault(running: Any, content: Any) -> None:
    response = await running.client.post(
        URL, content=content, headers={"content-type": "application/json"}
    )
    assert 400 <= response.status_code < 500
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}])
async def test_a_body_of_another_type_is_refused(running: Any, headers: dict[str, str]) -> None:
    # Browsers send such bodies to other sites without asking first.
    response = await running.client.post(URL, content=json.dumps(body()), headers=headers)
    assert response.status_code == 400


async def test_requests_are_served_together(running: Any, generator: Any, happens: Any) -> None:
    generator.held.clear()
    asking = [asyncio.create_task(running.client.post(URL, json=body())) for _ in range(8)]
    await happens(lambda: generator.running == 8)
    generator.held.set()
    replies = await asyncio.gather(*asking)
    assert len({reply.json()["id"] for reply in replies}) == 8


async def test_a_long_prompt_is_encoded_off_the_loop(running: Any, generator: Any) -> None:
    generator.context_length = 100_000
    messages = [{"role": "user", "content": "x" * 30_000}]
    reply = (await running.client.post(URL, json=body(messages=messages))).json()
    assert reply["usage"]["prompt_tokens"] == 30_000
