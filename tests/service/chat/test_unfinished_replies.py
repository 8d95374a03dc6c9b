"""Votes on replies that are being written, and on those that were left or stopped half-way."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import Happens, ListeningApp, RunningApp, SayHi, Until

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {
    "model": "policy",
    "stream": True,
    "messages": [{"role": "user", "content": "Hi"}],
}


async def test_a_vote_that_comes_before_the_end_is_taken(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, happens: Happens
) -> None:
    generator.step_seconds = 0.02
    asking = asyncio.create_task(chat(running))
    await happens(lambda: generator.requests)
    completion_id = generator.requests[0].id
    vote = await running.client.put(f"/v1/feedback/{completion_id}", json={"thumb": "up"})
    assert vote.status_code == 200
    assert vote.json()["completion_id"] == completion_id
    assert (await asking).json()["id"] == completion_id
    assert (await running.client.get(f"/v1/feedback/{completion_id}")).json()["thumb"] == "up"


async def test_nobody_else_can_wait_for_a_reply(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, happens: Happens
) -> None:
    generator.held.clear()
    asking = asyncio.create_task(chat(running))
    await happens(lambda: generator.requests)
    url = f"/v1/feedback/{generator.requests[0].id}"
    other = await running.client.put(url, json={"thumb": "up", "user": "eve"})
    assert other.status_code == 404
    generator.held.set()
    await asking


async def test_a_vote_on_a_reply_that_then_fails_is_refused(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, happens: Happens
) -> None:
    generator.step_seconds, generator.fail_after = 0.02, 3
    asking = asyncio.create_task(chat(running))
    await happens(lambda: generator.requests)
    url = f"/v1/feedback/{generator.requests[0].id}"
    assert (await running.client.put(url, json={"thumb": "up"})).status_code == 404
    assert (await asking).status_code == 503


def test_a_reply_that_was_left_is_recorded_as_far_as_it_was_sent(
    listening: ListeningApp, until: Until
) -> None:
    generator = listening.generator
    generator.step_seconds, generator.texts["base"] = 0.02, "x" * 150
    seen, completion_id = "", ""
    with httpx.stream("POST", f"{listening.url}/v1/chat/completions", json=CHAT) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                chunk = json.loads(line.removeprefix("data: "))
                completion_id = chunk["id"]
                seen += chunk["choices"][0]["delta"].get("content") or ""
            if len(seen) >= 10:
                break
    until(lambda: generator.cancelled)
    url = f"{listening.url}/v1/chat/completions/{completion_id}"
    until(lambda: httpx.get(url).is_success)
    choice = httpx.get(url).json()["choices"][0]
    assert choice["message"]["content"].startswith(seen)
    assert len(choice["message"]["content"]) < 150
    assert choice["finish_reason"] == "length"
    vote = httpx.put(f"{listening.url}/v1/feedback/{completion_id}", json={"thumb": "down"})
    assert vote.json()["state"] == "pending"


async def test_who_leaves_while_the_end_is_recorded_has_it_recorded_all_the_same(
    running: RunningApp, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, begun = store.completions.record, asyncio.Event()

    async def slow(completion: Any) -> None:
        begun.set()
        await asyncio.sleep(0.05)
        await write(completion)

    monkeypatch.setattr(store.completions, "record", slow)
    asking = asyncio.create_task(running.client.post("/v1/chat/completions", json=CHAT))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(5):
        while not (await store.versions.get("base")).completions:  # noqa: ASYNC110 - the record tells nobody
            await asyncio.sleep(0.01)
    assert (await store.versions.get("base")).completions == 1


async def test_the_id_of_several_replies_names_them(
    running: RunningApp, chat: SayHi, store: Store
) -> None:
    reply = (await chat(running, n=2)).json()
    answer = await running.client.put(f"/v1/feedback/{reply['id']}", json={"thumb": "up"})
    assert answer.status_code == 404
    for each in reply["choices"]:
        assert each["completion_id"] in answer.json()["error"]["message"]
    stranger = await running.client.put(
        f"/v1/feedback/{reply['id']}", json={"thumb": "up", "user": "eve"}
    )
    assert f"{reply['id']}.0" not in stranger.json()["error"]["message"]
