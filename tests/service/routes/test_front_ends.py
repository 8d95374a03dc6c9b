"""Votes from where people chat: by a front end's own ids, and by token from a browser."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feedback.types import Person

if TYPE_CHECKING:
    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import Happens, ReadEvents, RunningApp, SayHi, StartApp

pytestmark = pytest.mark.anyio

CHAT = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}]}
OPEN_WEBUI = {
    "X-OpenWebUI-Chat-Id": "c-1",
    "X-OpenWebUI-Message-Id": "m-1",
    "X-OpenWebUI-User-Id": "u-1",
}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_a_vote_by_the_id_of_a_front_end(
    running: RunningApp, chat: SayHi, store: Store
) -> None:
    reply = (await chat(running, user="ann", metadata={"external_id": "a/b c?"})).json()
    url = "/v1/feedback/external/a/b%20c%3F"
    vote = await running.client.put(url, json={"thumb": "up", "user": "ann"})
    assert vote.status_code == 200, vote.text
    assert vote.json()["completion_id"] == reply["id"]
    again = await running.client.put(url, json={"thumb": "down", "user": "ann"})
    assert again.json()["revision"] == 2
    assert (await running.client.get(url, params={"user": "ann"})).json()["thumb"] == "down"
    assert (await running.client.delete(url, params={"user": "ann"})).json()["withdrawn"]
    assert await store.votes.count_waiting() == 0
    stranger = await running.client.put(url, json={"thumb": "up", "user": "eve"})
    assert stranger.status_code == 404
    assert "metadata.external_id" in stranger.json()["error"]["message"]


async def test_of_two_replies_with_one_id_the_later_one_counts(
    running: RunningApp, chat: SayHi
) -> None:
    await chat(running, metadata={"external_id": "m"})
    second = (await chat(running, metadata={"external_id": "m"})).json()
    vote = await running.client.put("/v1/feedback/external/m", json={"thumb": "up"})
    assert vote.json()["completion_id"] == second["id"]


async def test_open_webuis_headers_name_the_reply_the_conversation_and_the_user(
    running: RunningApp, store: Store
) -> None:
    reply = await running.client.post("/v1/chat/completions", json=CHAT, headers=OPEN_WEBUI)
    record = await store.completions.get(reply.json()["id"])
    assert record is not None
    assert (record.person, record.conversation) == (Person("open", "u-1"), "c-1")
    body = {"thumb": "up", "user": "u-1"}
    vote = await running.client.put("/v1/feedback/external/c-1:m-1", json=body)
    assert vote.json()["completion_id"] == record.id
    # What the body says comes first.
    own = {**CHAT, "user": "ann", "metadata": {"external_id": "x", "conversation_id": "y"}}
    reply = await running.client.post("/v1/chat/completions", json=own, headers=OPEN_WEBUI)
    record = await store.completions.get(reply.json()["id"])
    assert record is not None
    assert (record.person.user, record.conversation) == ("ann", "y")


async def test_what_a_front_end_asks_for_itself_is_not_recorded(
    running: RunningApp, store: Store
) -> None:
    headers = {**OPEN_WEBUI, "X-OpenWebUI-Task": "title_generation"}
    reply = (await running.client.post("/v1/chat/completions", json=CHAT, headers=headers)).json()
    assert reply["choices"][0]["message"]["content"]
    assert not reply["recorded"]
    assert reply["choices"][0]["feedback_token"] is None
    assert await store.completions.get(reply["id"]) is None


async def test_a_vote_by_an_external_id_waits_for_the_reply(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, happens: Happens
) -> None:
    generator.step_seconds = 0.02
    asking = asyncio.create_task(chat(running, metadata={"external_id": "m"}))
    await happens(lambda: generator.requests)
    vote = await running.client.put("/v1/feedback/external/m", json={"thumb": "up"})
    assert vote.json()["completion_id"] == (await asking).json()["id"]


async def test_two_replies_of_one_id_at_once_keep_nobody_waiting_for_ever(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, happens: Happens
) -> None:
    generator.step_seconds = 0.02
    asking = [
        asyncio.create_task(chat(running, metadata={"external_id": "m"}, max_tokens=most))
        for most in (3, 9)
    ]
    await happens(lambda: len(generator.requests) == 2)
    async with asyncio.timeout(5):
        votes = await asyncio.gather(
            *(running.client.put("/v1/feedback/external/m", json={"thumb": "up"}) for _ in "ab")
        )
    assert [vote.status_code for vote in votes] == [200, 200]
    await asyncio.gather(*asking)


async def test_a_token_votes_on_its_reply_and_on_no_other(
    running: RunningApp, chat: SayHi, store: Store
) -> None:
    await store.keys.create("front end", frozenset({"chat"}), now=1.0)
    await running.runtime.authenticator.refresh()
    _, key = await store.keys.create("other", frozenset({"chat"}), now=1.0)
    ask: dict[str, Any] = {"json": {**CHAT, "user": "ann", "n": 2}, "headers": bearer(key)}
    choices = (await running.client.post("/v1/chat/completions", **ask)).json()["choices"]
    ids = [each["completion_id"] for each in choices]
    first, second = (bearer(each["feedback_token"]) for each in choices)
    client = running.client

    vote = await client.put(f"/v1/feedback/{ids[0]}", json={"thumb": "up"}, headers=first)
    assert vote.status_code == 200, vote.text
    again = await client.put(f"/v1/feedback/{ids[0]}", json={"thumb": "down"}, headers=first)
    assert (again.json()["revision"], await store.votes.count_waiting()) == (2, 1)
    assert (await client.get(f"/v1/feedback/{ids[0]}", headers=first)).json()["thumb"] == "down"

    for method, path in (
        ("PUT", f"/v1/feedback/{ids[1]}"),
        ("PUT", "/v1/feedback/external/m"),
        ("PUT", f"/v1/comparisons/{ids[0]}"),
        ("GET", f"/v1/chat/completions/{ids[0]}"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("GET", "/admin/versions"),
    ):
        refused = await client.request(method, path, json={"thumb": "up"}, headers=first)
        assert refused.status_code == 403, (method, path)
    other_user = {"thumb": "up", "user": "eve"}
    refused = await client.put(f"/v1/feedback/{ids[1]}", json=other_user, headers=second)
    assert refused.json()["error"]["code"] == "wrong_token"
    assert (await client.delete(f"/v1/feedback/{ids[0]}", headers=first)).json()["withdrawn"]


@pytest.mark.parametrize("change", ["forged", "expired", "of another server"])
async def test_a_token_that_does_not_count_is_refused(
    running: RunningApp,
    chat: SayHi,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    raw_redis: Any,
    change: str,
) -> None:
    reply = (await chat(running)).json()
    token = reply["choices"][0]["feedback_token"]
    if change == "forged":
        token = token[:-4] + ("aaaa" if token[-4:] != "aaaa" else "bbbb")
    elif change == "expired":
        monkeypatch.setattr(running.runtime.tokens, "_seconds", -1)
    else:
        await raw_redis.delete("tl:token-secret")
        monkeypatch.setattr(running.runtime.tokens, "_signer", None)
    url = f"/v1/feedback/{reply['id']}"
    refused = await running.client.put(url, json={"thumb": "up"}, headers=bearer(token))
    assert refused.status_code == 401
    assert "token" in refused.json()["error"]["message"]
    assert await store.votes.count_waiting() == 0


async def test_a_stream_has_the_token_at_the_end_of_the_reply(
    running: RunningApp, chat: SayHi, events: ReadEvents
) -> None:
    chunks = [json for json in map(_parsed, events(await chat(running, stream=True))) if json]
    tokens = [each["choices"][0].get("feedback_token") for each in chunks if each["choices"]]
    assert tokens[:-1] == [None] * (len(tokens) - 1)
    url = f"/v1/feedback/{chunks[0]['id']}"
    vote = await running.client.put(url, json={"thumb": "up"}, headers=bearer(tokens[-1]))
    assert vote.status_code == 200


async def test_an_operator_may_do_without_tokens(
    service_settings: ServiceSettings,
    generator: FakeGenerator,
    store: Store,
    chat: SayHi,
    start_app: StartApp,
) -> None:
    settings = service_settings.model_copy(update={"feedback_token_ttl": timedelta(0)})
    async with start_app(settings, generator, store) as running:
        assert (await chat(running)).json()["choices"][0]["feedback_token"] is None


def _parsed(data: str) -> dict[str, Any] | None:
    import json

    return None if data == "[DONE]" else json.loads(data)
