"""The canary over HTTP: who gets it, and what replies say of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

import service.following.watcher
from feedback.types import Audit
from models.versions import Activate, StartCanary, StopCanary

if TYPE_CHECKING:
    from collections.abc import Callable

    from feedback.store import Store
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import Happens, RunningApp, SayHi

pytestmark = pytest.mark.anyio
V1, V2 = "v000001-000000000001", "v000002-000000000002"


@pytest.fixture
async def canary(running: RunningApp, store: Store, happens: Happens) -> None:
    for version in (V1, V2):
        await store.versions.add(version, parent="base", manifest={}, state="approved", now=1.0)
    await store.rollout.do(Activate(V1), Audit("test", "test", 1.0))
    await store.rollout.do(StartCanary(V2, 0.4), Audit("test", "test", 1.0))
    await happens(lambda: running.runtime.watcher.generation == 2)


async def version_of(running: RunningApp, chat: SayHi, **fields: Any) -> str:
    """Ask; return the version that header, fingerprint and text agree on."""
    answer = await chat(running, **fields)
    version: str = answer.headers["x-policy-version"]
    body = answer.json()
    assert body["system_fingerprint"] == version
    assert body["choices"][0]["message"]["content"] == f"I am {version}"
    return version


async def test_a_user_stays_on_one_version(running: RunningApp, canary: None, chat: SayHi) -> None:
    seen = {}
    for user in (f"user{number}" for number in range(40)):
        named = {"user": user}
        versions = {
            await version_of(running, chat, metadata={"conversation_id": talk}, **named)
            for talk in ("one", "two")
        }
        assert len(versions) == 1
        seen[user] = versions.pop()
    assert set(seen.values()) == {V1, V2}


async def test_a_conversation_without_a_user_stays_too(
    running: RunningApp, canary: None, chat: SayHi
) -> None:
    seen = []
    for talk in range(40):
        metadata = {"conversation_id": f"talk{talk}"}
        versions = {await version_of(running, chat, metadata=metadata) for _ in range(2)}
        assert len(versions) == 1
        seen.append(versions.pop())
    assert set(seen) == {V1, V2}


async def test_requests_that_name_nobody_are_drawn(
    running: RunningApp, canary: None, chat: SayHi
) -> None:
    drawn = [await version_of(running, chat) for _ in range(60)]
    # Each bound misses a fair draw of 60 at 0.4 less than once in 10^5 times.
    assert 5 <= drawn.count(V2) <= 44


async def test_all_choices_of_one_request_are_one_versions(
    running: RunningApp, canary: None, chat: SayHi
) -> None:
    for _ in range(10):
        body = (await chat(running, n=4)).json()
        assert len({choice["message"]["content"] for choice in body["choices"]}) == 1


async def test_a_pinned_or_base_request_does_not_take_part(
    running: RunningApp, canary: None, chat: SayHi
) -> None:
    for model, version in ((f"policy@{V2}", V2), (f"policy@{V1}", V1), ("base", "base")):
        seen = {await version_of(running, chat, model=model) for _ in range(10)}
        assert seen == {version}


async def test_the_record_says_which_version_replied(
    running: RunningApp, canary: None, chat: SayHi, store: Store
) -> None:
    answer = await chat(running, user="ann", metadata={"conversation_id": "c"})
    record = await store.completions.get(answer.json()["id"])
    assert record.version == answer.headers["x-policy-version"]
    assert record.conversation == "c"


async def test_the_canary_is_listed_as_a_model(running: RunningApp, canary: None) -> None:
    models = (await running.client.get("/v1/models")).json()["data"]
    assert [each["id"] for each in models][:2] == ["policy", "base"]
    assert {f"policy@{V1}", f"policy@{V2}"} <= {each["id"] for each in models}


async def test_a_stream_keeps_its_version_when_the_canary_ends_and_frees_it_after(
    running: RunningApp,
    generator: FakeGenerator,
    canary: None,
    store: Store,
    chat: SayHi,
    events: Callable[..., list[str]],
    happens: Happens,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service.following.watcher, "LINGER_SECONDS", 0.0)
    await store.rollout.do(StartCanary(V2, 1.0), Audit("test", "test", 2.0))
    await happens(lambda: running.runtime.watcher.generation == 3)
    generator.held.clear()
    asking = asyncio.create_task(chat(running, stream=True))
    await happens(lambda: generator.requests)
    await store.rollout.do(StopCanary(), Audit("test", "test", 3.0))
    await happens(lambda: V2 not in generator.loaded())
    assert running.runtime.watcher.version_for("anybody") == V1
    generator.held.set()
    answer = await asking
    assert answer.headers["x-policy-version"] == V2
    chunks = [json.loads(data) for data in events(answer) if data != "[DONE]"]
    assert {chunk["system_fingerprint"] for chunk in chunks} == {V2}
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == f"I am {V2}"
