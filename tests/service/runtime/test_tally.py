"""What the API counts of its replies for the judge."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from service.runtime.tally import MOST_PER_MINUTE, MOST_VERSIONS, ReplyTally

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

    from feedback.judging import Replies
    from feedback.store import Store
    from tests.support.service.application import RunningApp

    Chat = Callable[..., Awaitable[httpx.Response]]

pytestmark = pytest.mark.anyio
WELL: dict[str, Any] = {"first_token": 0.3, "tokens": 5, "cut": False}


async def base_replies(store: Store) -> Replies:
    (tally,) = await store.tallies.read(["base"])
    return tally.replies


async def test_replies_are_counted(running: RunningApp, store: Store, chat: Chat) -> None:
    whole = await chat(running)
    tokens = whole.json()["usage"]["completion_tokens"]
    cut = await chat(running, max_tokens=1)
    assert (whole.status_code, cut.json()["choices"][0]["finish_reason"]) == (200, "length")
    await running.runtime.tally.flush()
    replies = await base_replies(store)
    assert (replies.requests, replies.errors, replies.cut) == (2, 0, 1)
    assert (replies.tokens, replies.squared_tokens) == (tokens + 1, tokens**2 + 1)
    assert sum(replies.first_token) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_that_fails_is_an_error(
    running: RunningApp, store: Store, chat: Chat, stream: bool
) -> None:
    running.generator.fail_after = 2
    await chat(running, stream=stream)
    await running.runtime.tally.flush()
    replies = await base_replies(store)
    assert (replies.requests, replies.errors, replies.tokens) == (1, 1, 0)


async def test_replies_of_a_version_that_was_named_are_not_counted(
    running: RunningApp, store: Store, chat: Chat
) -> None:
    reply = await chat(running, model="base")
    running.generator.fail_after = 2
    await chat(running, model="base")
    await running.runtime.tally.flush()
    assert (await base_replies(store)).requests == 0
    recorded = await store.completions.get(reply.json()["id"])
    assert recorded is not None
    assert recorded.pinned


async def test_a_refusal_is_no_error_of_the_version(
    running: RunningApp, store: Store, chat: Chat
) -> None:
    running.generator.max_running = 0
    assert (await chat(running)).status_code == 429
    await running.runtime.tally.flush()
    assert (await base_replies(store)).requests == 0


async def test_chats_go_on_without_redis_and_are_counted_once_it_is_back(
    away: Store, store: Store
) -> None:
    tally = ReplyTally(away)
    tally.ended("base", "ann", **WELL)
    await tally.flush()
    await tally.flush()
    tally._store = store
    tally.failed("base", "ann")
    await tally.flush()
    replies = await base_replies(store)
    assert (replies.requests, replies.errors) == (2, 1)


async def test_a_flush_that_is_cut_off_loses_nothing(store: Store) -> None:
    tally = ReplyTally(store)
    tally.ended("base", "ann", **WELL)

    async def never(_counts: object) -> None:
        await asyncio.sleep(60)

    add, store.tallies.add = store.tallies.add, never
    flushing = asyncio.create_task(tally.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    store.tallies.add = add
    await tally.flush()
    assert (await base_replies(store)).requests == 1


async def test_nobody_alone_decides_what_replies_are_like(store: Store) -> None:
    now = [30.0]
    tally = ReplyTally(store, clock=lambda: now[0])
    for _ in range(50):
        tally.failed("base", "eve")
    tally.ended("base", "ann", **WELL)
    now[0] = 61.0
    tally.failed("base", "eve")
    await tally.flush()
    replies = await base_replies(store)
    assert (replies.requests, replies.errors) == (MOST_PER_MINUTE + 2, MOST_PER_MINUTE + 1)


async def test_memory_is_bounded(away: Store) -> None:
    tally = ReplyTally(away)
    for number in range(2 * MOST_VERSIONS):
        tally.ended(f"v{number}", "ann", **WELL)
    assert len(tally._counts) == MOST_VERSIONS
