from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from feedback.retention import RecordHealth, SweepReport
from models.errors import BaseModelError
from service.runtime.record_health import sweep_problem, worker_problem
from service.schemas.error_answers import describe

if TYPE_CHECKING:
    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import Happens, RunningApp, StartApp

pytestmark = pytest.mark.anyio

CHAT = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}]}


async def test_a_running_server_is_alive_and_ready(running: RunningApp, happens: Happens) -> None:
    assert (await running.client.get("/livez")).json() == {"status": "ok"}
    await happens(lambda: running.runtime.record.health)
    ready = await running.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "ready": True,
        "missing": [],
        "serving": "base",
        "live": "base",
        "canary": None,
        "generation": 0,
        "redis": "ok",
        "problem": None,
        "last_look_seconds": None,
        "last_sweep_seconds": None,
        "log": {"events": 0, "unexported": None},
        "warnings": ["No worker has looked for work yet."],
    }


async def test_a_server_tells_when_workers_looked_and_swept(
    running: RunningApp, store: Store
) -> None:
    now = time.time()
    await store.learning.looked(now - 3)
    await store.retention.sweep(now=now - 42, seconds=1.0)
    await running.runtime.record.read()
    told = (await running.client.get("/readyz")).json()
    assert 3 <= told["last_look_seconds"] < 10
    assert 42 <= told["last_sweep_seconds"] < 50
    assert told["log"] == {"events": 0, "unexported": 0}
    assert told["warnings"] == []


async def test_silent_workers_are_a_warning_and_the_server_stays_ready(
    running: RunningApp, store: Store
) -> None:
    await store.learning.looked(time.time() - 20)
    await running.runtime.record.read()
    ready = await running.client.get("/readyz")
    assert ready.status_code == 200
    (warning,) = ready.json()["warnings"]
    assert warning.startswith("No worker has looked for work for 2")


async def test_without_redis_the_last_answer_is_told_at_once(
    running: RunningApp, store: Store, away: Store
) -> None:
    await store.learning.looked(time.time() - 20)
    record = running.runtime.record
    await record.read()
    record._store = away
    await record.read()
    began = time.monotonic()
    ready = await running.client.get("/readyz")
    assert time.monotonic() - began < 0.5
    assert ready.status_code == 200
    assert ready.json()["last_look_seconds"] >= 20
    assert ready.json()["warnings"] == [], "the workers may well look"


async def test_a_hanging_redis_does_not_hold_up_the_answer(
    running: RunningApp, happens: Happens
) -> None:
    hangs = asyncio.Event()
    running.runtime.record._store = SimpleNamespace(retention=SimpleNamespace(health=hangs.wait))
    look = asyncio.create_task(running.runtime.record.read())
    await asyncio.sleep(0)
    async with asyncio.timeout(0.5):
        assert (await running.client.get("/readyz")).status_code == 200
        assert (await running.client.get("/metrics")).status_code == 200
    look.cancel()


async def test_figures_tell_of_the_record_what_is_known(
    running: RunningApp, store: Store, happens: Happens
) -> None:
    await happens(lambda: running.runtime.record.health)
    text = (await running.client.get("/metrics")).text
    assert "thumbloop_waiting_votes 0.0" in text
    assert "thumbloop_last_look_seconds " not in text
    now = time.time()
    await store.learning.looked(now - 20)
    await store.retention.sweep(now=now - 40, seconds=1.0)
    await running.runtime.record.read()
    text = (await running.client.get("/metrics")).text
    figures = dict(line.split(" ") for line in text.splitlines() if line.startswith("thumbloop_l"))
    assert float(figures["thumbloop_last_look_seconds"]) == pytest.approx(20, abs=5)
    assert float(figures["thumbloop_last_sweep_seconds"]) == pytest.approx(40, abs=5)
    assert "thumbloop_unexported_events 0.0" in text


HEALTH = RecordHealth(last_look=100.0, waiting_votes=1, log_events=2, swept=SweepReport(at=90.0))
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("now", "workers", "retention"),
    [
        (99.0, None, None),
        (114.9, None, None),
        (115.0, "No worker has looked for work for 15 s.", None),
        (500.0, "No worker has looked for work for 400 s.", None),
    ],
)
def test_when_workers_count_as_silent(
    now: float, workers: str | None, retention: str | None
) -> None:
    assert worker_problem(HEALTH, now=now) == workers
    assert sweep_problem(HEALTH, now=now, interval=MINUTE) == retention


@pytest.mark.parametrize(
    ("swept", "problem"),
    [
        (None, None),
        (SweepReport(at=1000.0 - 195), None),
        (SweepReport(at=1000.0 - 196), "Expired records have not been swept out for 196 s."),
        (SweepReport(at=999.0, rewrite="started"), None),
        (
            SweepReport(at=999.0, rewrite="wanted"),
            "Redis has not yet rewritten its append-only file since a user was deleted.",
        ),
    ],
)
def test_when_sweeps_count_as_missing(swept: SweepReport | None, problem: str | None) -> None:
    health = replace(HEALTH, last_look=1000.0, swept=swept)
    assert sweep_problem(health, now=1000.0, interval=MINUTE) == problem


async def test_while_the_model_loads_the_server_is_alive_but_not_ready(
    start_app: StartApp, service_settings: ServiceSettings, generator: FakeGenerator, store: Store
) -> None:
    loading = asyncio.Event()
    generator.start = loading.wait
    async with start_app(service_settings, generator, store, started=False) as running:
        await asyncio.sleep(0.05)
        assert (await running.client.get("/livez")).status_code == 200
        ready = await running.client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["missing"] == ["the base model is being loaded"]
        chat = await running.client.post("/v1/chat/completions", json=CHAT)
        assert chat.status_code == 503
        assert chat.json()["error"]["code"] == "not_ready"
        assert int(chat.headers["retry-after"]) > 0
        loading.set()
        await running.runtime.started.wait()
        assert (await running.client.get("/readyz")).status_code == 200


async def test_a_model_that_cannot_be_loaded_is_told(
    start_app: StartApp,
    service_settings: ServiceSettings,
    generator: FakeGenerator,
    store: Store,
    happens: Happens,
) -> None:
    generator.start_error = BaseModelError("The base model is missing.")
    async with start_app(service_settings, generator, store, started=False) as running:
        await happens(lambda: running.runtime.lifecycle.failure)
        missing = (await running.client.get("/readyz")).json()["missing"]
        assert missing == ["the start failed: The base model is missing."]
        assert (await running.client.get("/livez")).status_code == 200


async def test_a_draining_server_is_not_ready_but_serves(running: RunningApp) -> None:
    running.runtime.lifecycle.draining = True
    ready = await running.client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["missing"] == ["the server is shutting down"]
    assert (await running.client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_figures_count_requests_tokens_and_rows(
    running: RunningApp, generator: FakeGenerator
) -> None:
    await running.client.post("/v1/chat/completions", json=CHAT)
    await running.client.request("HACK", "/nowhere/in/particular")
    generator.running, generator.waiting, generator.reused = 3, 2, 96
    answer = await running.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for line in (
        'thumbloop_requests_total{method="POST",route="/v1/chat/completions",status="200"} 1.0',
        'thumbloop_requests_total{method="other",route="other",status="404"} 1.0',
        'thumbloop_tokens_total{kind="prompt"} 2.0',
        'thumbloop_tokens_total{kind="completion"} 10.0',
        'thumbloop_replies_total{version="base"} 1.0',
        'thumbloop_request_seconds_count{route="/v1/chat/completions"} 1.0',
        "thumbloop_first_token_seconds_count 1.0",
        "thumbloop_rows_running 3.0",
        "thumbloop_rows_waiting 2.0",
        "thumbloop_decode_steps_total 10.0",
        "thumbloop_reused_tokens_total 96.0",
        "thumbloop_refused_total 0.0",
        "thumbloop_redis_up 1.0",
        "thumbloop_ready 1.0",
    ):
        assert line in answer.text


async def test_every_answer_has_a_request_id_of_its_own(running: RunningApp) -> None:
    ids = {(await running.client.get("/livez")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/x", 404), ("PUT", "/livez", 405)])
async def test_errors_of_the_framework_have_openais_shape(
    running: RunningApp, method: str, path: str, status: int
) -> None:
    answer = await running.client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "code", "param"}


async def test_what_nobody_foresaw_tells_nothing_of_the_inside() -> None:
    described = describe(RuntimeError("secret"))
    assert described.status == 500
    assert "secret" not in described.text()
