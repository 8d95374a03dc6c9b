from __future__ import annotations

import asyncio
import json
import math
import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import service.following.watcher
from feedback.store import Store
from feedback.types import Audit, Person
from models.types import Message
from models.versions import RecordGateVerdict

if TYPE_CHECKING:
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import Happens, ReadEvents, RunningApp, SayHi, StartApp

pytestmark = pytest.mark.anyio

V1 = "v000001-000000000001"
V2 = "v000002-000000000002"
V3 = "v000003-000000000003"
URL = "/v1/chat/completions"


async def test_a_reply_has_openais_shape_and_names_its_version(
    running: RunningApp, chat: SayHi
) -> None:
    response = await chat(running)
    assert response.status_code == 200
    assert response.headers["x-policy-version"] == "base"
    reply = response.json()
    assert reply["id"].startswith("chatcmpl-")
    assert reply["object"] == "chat.completion"
    assert reply["system_fingerprint"] == "base"
    assert reply["recorded"] is True
    token = reply["choices"][0].pop("feedback_token")
    assert token.startswith("tlf_")
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


async def test_the_record_holds_what_the_learner_needs(
    running: RunningApp, store: Store, chat: SayHi
) -> None:
    response = await chat(
        running,
        user="ann",
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        seed=5,
        stop="###",
        max_tokens=20,
        metadata={"conversation_id": "c1", "page": "home"},
    )
    reply = response.json()
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
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.7, 0.9, 40)
    assert (sampling.stop, sampling.max_tokens, sampling.seed) == (("###",), 20, 5)
    assert record.finish_reason == "stop"


async def test_a_stream_opens_adds_ends_and_is_done(
    running: RunningApp, chat: SayHi, events: ReadEvents
) -> None:
    response = await chat(running, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"  # or nginx holds the events back
    assert response.headers["x-policy-version"] == "base"
    *data, done = events(response)
    assert done == "[DONE]"
    chunks = [json.loads(chunk) for chunk in data]
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


async def test_a_stream_without_usage_says_nothing_of_it(
    running: RunningApp, chat: SayHi, events: ReadEvents
) -> None:
    response = await chat(running, stream=True)
    chunks = [json.loads(chunk) for chunk in events(response)[:-1]]
    assert all("usage" not in chunk for chunk in chunks)


async def test_each_of_several_choices_is_a_completion(
    running: RunningApp, store: Store, generator: FakeGenerator, chat: SayHi
) -> None:
    reply = (await chat(running, n=3, seed=10)).json()
    ids = [choice["completion_id"] for choice in reply["choices"]]
    assert ids == [f"{reply['id']}.{index}" for index in range(3)]
    records = await store.completions.get_many(ids)
    assert [record.sampling.seed for record in records] == [10] * 3
    assert [request.choice for request in generator.requests] == [0, 1, 2]
    assert reply["usage"]["completion_tokens"] == 30


async def test_streamed_choices_are_told_apart(
    running: RunningApp, chat: SayHi, events: ReadEvents
) -> None:
    response = await chat(running, n=2, stream=True)
    texts = ["", ""]
    for chunk in map(json.loads, events(response)[:-1]):
        choice = chunk["choices"][0]
        assert choice["completion_id"] == f"{chunk['id']}.{choice['index']}"
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == ["I am base", "I am base"]


async def test_logprobs_name_each_token_and_its_alternatives(
    running: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    generator.texts["base"] = "é"
    reply = (await chat(running, logprobs=True, top_logprobs=2)).json()
    first, end = reply["choices"][0]["logprobs"]["content"]
    assert first["token"] == "é"
    assert first["bytes"] == [0xC3, 0xA9]
    assert first["logprob"] == pytest.approx(math.log(0.5))
    assert [other["token"] for other in first["top_logprobs"]] == ["é", "A"]
    assert first["top_logprobs"][1]["logprob"] == -9999.0
    assert end["token"] == "<end>"


async def test_logprobs_give_the_bytes_of_half_a_character(
    running: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    generator.texts["base"] = "\ufffd"
    generator.token_bytes = {0xFFFD: b"\xf0\x9f", 65: b"A", 0: b""}.__getitem__
    first, _ = (await chat(running, logprobs=True)).json()["choices"][0]["logprobs"]["content"]
    assert (first["token"], first["bytes"]) == ("\ufffd", [0xF0, 0x9F])


async def test_streamed_logprobs_come_with_their_text(
    running: RunningApp, chat: SayHi, events: ReadEvents
) -> None:
    response = await chat(running, logprobs=True, stream=True)
    tokens = [
        token["token"]
        for chunk in map(json.loads, events(response)[:-1])
        for token in (chunk["choices"][0].get("logprobs") or {"content": []})["content"]
    ]
    assert tokens == [*"I am base", "<end>"]


async def test_parts_and_developer_messages_reach_the_model_as_text(
    running: RunningApp, store: Store, chat: SayHi
) -> None:
    messages = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "ab", "refusal": None, "tool_calls": None},
        {"role": "user", "content": "c"},
    ]
    reply = (await chat(running, messages=messages)).json()
    record = await store.completions.get(reply["id"])
    assert record.messages == (
        Message("system", "Be kind."),
        Message("user", "a\nb"),
        Message("assistant", "ab"),
        Message("user", "c"),
    )


@pytest.mark.parametrize(("prompt", "limit"), [(10, 190), (199, 1)])
async def test_a_reply_gets_the_room_that_is_left(
    running: RunningApp, generator: FakeGenerator, prompt: int, limit: Any, chat: SayHi
) -> None:
    messages = [{"role": "user", "content": "x" * prompt}]
    await chat(running, messages=messages)
    assert generator.requests[0].sampling.max_tokens == limit


async def test_max_tokens_cuts_the_reply(running: RunningApp, chat: SayHi) -> None:
    reply = (await chat(running, max_completion_tokens=4)).json()
    assert reply["choices"][0]["message"]["content"] == "I am"
    assert reply["choices"][0]["finish_reason"] == "length"


async def test_a_version_can_be_pinned(running: RunningApp, store: Store, chat: SayHi) -> None:
    reply = (await chat(running, model=f"policy@{V2}")).json()
    assert reply["system_fingerprint"] == V2
    assert reply["choices"][0]["message"]["content"] == f"I am {V2}"
    assert (await store.completions.get(reply["id"])).version == V2


@pytest.mark.parametrize("state", ["candidate", "rejected", "approved", None])
async def test_only_operators_may_try_what_the_gate_has_not_passed(
    running: RunningApp, store: Store, chat: SayHi, happens: Happens, state: Any
) -> None:
    if state is not None:
        await store.versions.add(V2, parent="base", manifest={}, state="candidate", now=1.0)
    if state not in {None, "candidate"}:
        await store.rollout.do(RecordGateVerdict(V2, state), Audit("gate", "", 2.0))
    _, anns = await store.keys.create("ann", frozenset({"chat"}), now=1.0)
    _, ops = await store.keys.create("ops", frozenset({"chat", "admin"}), now=1.0)
    await happens(lambda: running.runtime.authenticator.keyed)

    async def status(key: str) -> int:
        running.client.headers["authorization"] = f"Bearer {key}"
        return (await chat(running, model=f"policy@{V2}")).status_code

    assert await status(anns) == (200 if state == "approved" else 404)
    assert (V2 in running.generator.loaded()) == (state == "approved")
    assert await status(ops) == 200


async def test_pinned_versions_are_unloaded_when_others_were_asked_for(
    start_app: StartApp,
    service_settings: ServiceSettings,
    generator: FakeGenerator,
    store: Store,
    chat: SayHi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service.following.watcher, "LINGER_SECONDS", 0.0)
    settings = service_settings.model_copy(update={"pinned_versions": 2})
    async with start_app(settings, generator, store) as running:
        for version in (V1, V2, V3):
            await chat(running, model=f"policy@{version}")
        await running.runtime.watcher.look()
        assert generator.loaded() == {"base", V2, V3}


@pytest.mark.parametrize("stream", [False, True])
async def test_without_redis_the_chat_goes_on(
    start_app: StartApp,
    service_settings: ServiceSettings,
    generator: FakeGenerator,
    away: Store,
    stream: bool,
    chat: SayHi,
    events: ReadEvents,
) -> None:
    (service_settings.data_dir / "live.json").write_text('{"keyed": false}')
    async with start_app(service_settings, generator, away) as running:
        response = await chat(running, stream=stream)
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
    start_app: StartApp,
    service_settings: ServiceSettings,
    generator: FakeGenerator,
    chat: SayHi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Longer than the reply may be delayed; the store's end waits for it.
    monkeypatch.setattr("feedback.store.client._TIMEOUT", 1.2)
    (service_settings.data_dir / "live.json").write_text('{"keyed": false}')
    settings = service_settings.model_copy(
        update={"record_timeout": timedelta(seconds=0.2), "poll_interval": timedelta(seconds=60)}
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_store = Store.connect(f"redis://127.0.0.1:{silent.getsockname()[1]}", settings)
        async with start_app(settings, generator, silent_store) as running:
            started = time.monotonic()
            reply = (await chat(running)).json()
            assert time.monotonic() - started < 1.0
            assert reply["recorded"] is False
    await silent_store.close()


async def test_a_reply_that_was_not_recorded_says_so_when_it_is_voted_on(
    running: RunningApp, chat: SayHi
) -> None:
    reply = (await chat(running, store=False, user="ann")).json()
    assert reply["recorded"] is False
    url = f"/v1/feedback/{reply['id']}"
    vote = await running.client.put(url, json={"thumb": "up", "user": "ann"})
    assert vote.status_code == 404
    assert vote.json()["error"]["code"] == "not_recorded"
    other = await running.client.put(url, json={"thumb": "up", "user": "bob"})
    assert other.json()["error"]["code"] == "completion_not_found"


async def test_a_stored_completion_is_its_owners(running: RunningApp, chat: SayHi) -> None:
    reply = (await chat(running, user="ann", metadata={"a": "b"})).json()
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


async def test_requests_are_served_together(
    running: RunningApp, generator: FakeGenerator, happens: Happens, chat: SayHi
) -> None:
    generator.held.clear()
    asking = [asyncio.create_task(chat(running)) for _ in range(8)]
    await happens(lambda: generator.running == 8)
    generator.held.set()
    replies = await asyncio.gather(*asking)
    assert len({reply.json()["id"] for reply in replies}) == 8


async def test_a_long_prompt_is_encoded_off_the_loop(
    running: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    generator.context_length = 100_000
    messages = [{"role": "user", "content": "x" * 30_000}]
    reply = (await chat(running, messages=messages)).json()
    assert reply["usage"]["prompt_tokens"] == 30_000


@pytest.mark.parametrize("top_k", [0, -1, None])
async def test_a_top_k_that_sets_no_limit_is_none(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, top_k: Any
) -> None:
    await chat(running, top_k=top_k)
    assert generator.requests[0].sampling.top_k == 0


@pytest.mark.parametrize(("temperature", "kept"), [(0.01, 0.01), (0.0099, 0), (1e-300, 0), (0, 0)])
async def test_a_temperature_too_low_to_compute_with_is_greedy(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, temperature: float, kept: float
) -> None:
    await chat(running, temperature=temperature)
    assert generator.requests[0].sampling.temperature == kept


async def test_a_request_tells_the_engine_whose_it_is(
    running: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    await chat(running, user="ann", n=2)
    await chat(running)
    assert [request.user for request in generator.requests] == ["open:ann", "open:ann", "open:"]
