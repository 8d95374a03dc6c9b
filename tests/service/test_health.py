from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from models.errors import BaseModelError
from service.error_handlers import describe

if TYPE_CHECKING:
    from feedback.store import Store
    from service.settings import ServiceSettings

pytestmark = pytest.mark.anyio

CHAT = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}]}


async def test_a_running_server_is_alive_and_ready(running: Any) -> None:
    assert (await running.client.get("/livez")).json() == {"status": "ok"}
    ready = await running.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "ready": True,
        "missing": [],
        "serving": "base",
        "redis": "ok",
        "problem": None,
    }


async def test_while_the_model_loads_the_server_is_alive_but_not_ready(
    start_app: Any, service_settings: ServiceSettings, generator: Any, store: Store
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
    start_app: Any, service_settings: ServiceSettings, generator: Any, store: Store, happens: Any
) -> None:
    generator.start_error = BaseModelError("The base model is missing.")
    async with start_app(service_settings, generator, store, started=False) as running:
        await happens(lambda: running.runtime.lifecycle.failure)
        missing = (await running.client.get("/readyz")).json()["missing"]
        assert missing == ["the start failed: The base model is missing."]
        assert (await running.client.get("/livez")).status_code == 200


async def test_a_draining_server_is_not_ready_but_serves(running: Any) -> None:
    running.runtime.lifecycle.draining = True
    ready = await running.client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["missing"] == ["the server is shutting down"]
    assert (await running.client.post("/v1/chat/completions", json=CHAT)).status_code == 200


async def test_figures_count_requests_tokens_and_rows(running: Any, generator: Any) -> None:
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


async def test_every_answer_has_a_request_id_of_its_own(running: Any) -> None:
    ids = {(await running.client.get("/livez")).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/x", 404), ("PUT", "/livez", 405)])
async def test_errors_of_the_framework_have_openais_shape(
    running: Any, method: str, path: str, status: int
) -> None:
    answer = await running.client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "code", "param"}


async def test_what_nobody_foresaw_tells_nothing_of_the_inside() -> None:
    described = describe(RuntimeError("secret"))
    assert described.status == 500
    assert "secret" not in described.text()
