"""Chat requests that the engine refuses, or does not answer in time."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import Happens, ReadEvents, RunningApp, SayHi, StartApp

pytestmark = pytest.mark.anyio


async def figure(running: RunningApp, name: str) -> float:
    lines = (await running.client.get("/metrics")).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 2])
async def test_a_full_queue_asks_to_come_back(
    running: RunningApp, generator: FakeGenerator, stream: bool, n: int, chat: SayHi
) -> None:
    generator.max_running = n - 1
    response = await chat(running, stream=stream, n=n)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("queue_full", "rate_limit_error")
    assert generator.running == 0
    assert await figure(running, "thumbloop_refused_total") == 1


@pytest.mark.parametrize(("waiting", "seconds"), [(0, "1"), (7, "4"), (1000, "60")])
async def test_a_refused_client_is_told_how_long_the_line_takes(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, waiting: int, seconds: str
) -> None:
    generator.max_running = 0
    generator.waiting = waiting
    # While others wait, both rows are taken: two replies of a second each end in a second.
    running.runtime.pace.ended(1.0, running=2, waiting=1)
    response = await chat(running)
    assert response.headers["retry-after"] == seconds


async def test_the_line_is_measured_by_the_replies_that_end(
    running: RunningApp, chat: SayHi
) -> None:
    before = running.runtime.pace.seconds_for(1000)
    await chat(running, n=2)
    assert running.runtime.pace.seconds_for(1000) < before


@pytest.fixture
async def hurried(
    start_app: StartApp, service_settings: ServiceSettings, generator: FakeGenerator, store: Store
) -> AsyncIterator[RunningApp]:
    """Return an application that waits 50 ms for a first token and 150 ms for the last."""
    limits = {
        "queue_timeout": timedelta(milliseconds=50),
        "request_timeout": timedelta(milliseconds=150),
    }
    async with start_app(service_settings.model_copy(update=limits), generator, store) as found:
        yield found


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_that_does_not_begin_is_given_up(
    hurried: RunningApp, generator: FakeGenerator, chat: SayHi, stream: bool
) -> None:
    generator.held.clear()
    response = await chat(hurried, stream=stream, n=2)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    error = response.json()["error"]
    assert error["code"] == "queue_timeout"
    assert "within 0.05 seconds" in error["message"]
    assert generator.running == 0
    assert len(generator.cancelled) == 2
    assert await figure(hurried, 'thumbloop_timeouts_total{kind="queue"}') == 1


async def test_a_stream_that_has_opened_is_told_that_its_reply_does_not_begin(
    hurried: RunningApp,
    generator: FakeGenerator,
    chat: SayHi,
    events: ReadEvents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.chat.responding.BEGIN_SECONDS", 0.01)
    generator.held.clear()
    response = await chat(hurried, stream=True)
    assert response.status_code == 200
    assert json.loads(events(response)[-1])["error"]["code"] == "queue_timeout"
    assert generator.running == 0


async def test_a_reply_that_takes_too_long_is_given_up(
    hurried: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    generator.step_seconds = 0.03
    response = await chat(hurried)
    assert response.status_code == 504
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("request_timeout", "server_error")
    assert "within 0.15 seconds" in error["message"]
    assert "max_tokens" in error["message"]
    assert len(generator.cancelled) == 1
    assert generator.running == 0
    assert await figure(hurried, 'thumbloop_timeouts_total{kind="request"}') == 1


async def test_a_stream_that_takes_too_long_ends_with_an_error(
    hurried: RunningApp, generator: FakeGenerator, chat: SayHi, events: ReadEvents, store: Store
) -> None:
    generator.step_seconds = 0.03
    response = await chat(hurried, stream=True)
    first, *_, last = map(json.loads, events(response))
    assert last["error"]["code"] == "request_timeout"
    record = await store.completions.get(first["id"])
    assert record is not None
    assert "I am base".startswith(record.text)
    assert 0 < len(record.response_ids) < len("I am base")
    assert generator.running == 0


async def test_a_reply_in_time_is_not_disturbed_by_its_deadlines(
    hurried: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    assert (await chat(hurried)).status_code == 200
    await asyncio.sleep(0.2)
    assert generator.cancelled == []
    for kind in ("queue", "request"):
        assert await figure(hurried, f'thumbloop_timeouts_total{{kind="{kind}"}}') == 0


async def test_a_stream_that_nobody_waits_for_any_more_is_not_decoded(
    running: RunningApp, generator: FakeGenerator, chat: SayHi, happens: Happens
) -> None:
    generator.held.clear()
    asking = asyncio.create_task(chat(running, stream=True))
    await happens(lambda: generator.running)
    asking.cancel()
    await happens(lambda: generator.cancelled)
    assert generator.running == 0


async def test_an_engine_that_breaks_in_mid_stream_ends_the_stream_with_an_error(
    running: RunningApp, generator: FakeGenerator, store: Store, chat: SayHi, events: ReadEvents
) -> None:
    generator.fail_after = 3
    response = await chat(running, stream=True)
    *_, last = events(response)
    assert json.loads(last)["error"]["code"] == "engine_unavailable"
    record = await store.completions.get(json.loads(events(response)[0])["id"])
    assert record is not None
    assert (record.text, record.finish_reason) == ("I a", "length")


async def test_an_engine_that_breaks_answers_503(
    running: RunningApp, generator: FakeGenerator, chat: SayHi
) -> None:
    generator.fail_after = 3
    response = await chat(running)
    assert response.status_code == 503
