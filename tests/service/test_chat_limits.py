"""Chat requests that the engine refuses, or does not answer in time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from feedback.store import Store

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 2])
async def test_a_full_queue_asks_to_come_back(
    running: Any, generator: Any, stream: bool, n: int, chat: Any
) -> None:
    generator.max_running = n - 1
    response = await chat(running, stream=stream, n=n)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["error"]["code"] == "queue_full"
    assert generator.running == 0


async def test_an_engine_that_breaks_in_mid_stream_ends_the_stream_with_an_error(
    running: Any, generator: Any, store: Store, chat: Any, events: Any
) -> None:
    generator.fail_after = 3
    response = await chat(running, stream=True)
    *_, last = events(response)
    assert json.loads(last)["error"]["code"] == "engine_unavailable"
    assert await store.completions.get(json.loads(events(response)[0])["id"]) is None


async def test_an_engine_that_breaks_answers_503(running: Any, generator: Any, chat: Any) -> None:
    generator.fail_after = 3
    response = await chat(running)
    assert response.status_code == 503
