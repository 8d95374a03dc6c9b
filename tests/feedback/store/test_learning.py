from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from feedback.types import UpdateRequest

if TYPE_CHECKING:
    from feedback.store import Store

pytestmark = pytest.mark.anyio


async def test_pausing_and_resuming_is_audited_once(store: Store) -> None:
    assert not await store.learning.paused()
    await store.learning.pause("ann")
    await store.learning.pause("bob")
    assert await store.learning.paused()
    await store.learning.resume("bob")
    await store.learning.resume("bob")
    assert not await store.learning.paused()
    events = [(event.action, event.who) for event in await store.rollout.events()]
    assert events == [("resume", "bob"), ("pause", "ann")]


async def test_a_request_waits_until_it_is_answered(store: Store) -> None:
    first = await store.learning.request_update("ann", now=5.0)
    second = await store.learning.request_update("bob", now=6.0)
    assert first == UpdateRequest(first.id, "ann", 5.0, "waiting")
    assert await store.learning.waiting_requests() == [first, second]
    await store.learning.answer(first.id, run=7, answer="Run 7 has started.")
    assert await store.learning.waiting_requests() == [second]
    assert await store.learning.get_request(first.id) == UpdateRequest(
        first.id, "ann", 5.0, "answered", 7, "Run 7 has started."
    )


async def test_the_first_answer_stays(store: Store) -> None:
    request = await store.learning.request_update("ann", now=5.0)
    await store.learning.answer(request.id, run=None, answer="No votes wait.")
    await store.learning.answer(request.id, run=7, answer="Run 7 has started.")
    found = await store.learning.get_request(request.id)
    assert found is not None
    assert (found.run, found.answer) == (None, "No votes wait.")


async def test_answering_an_unknown_request_makes_none(store: Store) -> None:
    await store.learning.answer("0" * 16, run=1, answer="x")
    assert await store.learning.get_request("0" * 16) is None


async def test_the_last_look_is_remembered(store: Store) -> None:
    assert await store.learning.last_look() is None
    await store.learning.looked(1763800000.125)
    assert await store.learning.last_look() == 1763800000.125
