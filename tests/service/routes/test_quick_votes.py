"""Votes that go past the router are answered as the route itself answers them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from feedback.errors import StoreUnavailableError
from service.routes import feedback, quick_votes

if TYPE_CHECKING:
    import httpx

    from tests.support.service.application import RunningApp


pytestmark = pytest.mark.anyio

QUICK = "application/json"
BY_THE_ROUTE = "application/json; charset=utf-8"

BODIES = (
    b'{"user":"ann","thumb":"up"}',
    b'{"user":"ann","rating":4}',
    b'{"user":"ann","rating":3.5,"comment":null,"tags":["short"]}',
    b'{"user":"ann","comment":"h\\u00fcbsch"}',
    b'{"user":"ann","thumb":"up","rating":4}',
    b'{"user":"ann","rating":4.2}',
    b'{"user":"ann","rating":"4"}',
    b'{"user":"ann","rating":NaN}',
    b'{"user":"ann","thumb":"sideways"}',
    b'{"user":"ann","thumb":"up","unknown":1}',
    b'{"user":"ann"}',
    b'{"user":"bob","thumb":"up"}',
    b'{"user":"ann","comment":"\\ud800"}',
    b'{"user":"ann","tags":' + b"[" * 2000 + b"]" * 2000 + b"}",
    b'{"user":"ann","thumb":"up"',
    b"[1]",
    b'"up"',
    b"",
    b"\xff\xfe",
)


@pytest.fixture
async def completion_id(running: RunningApp) -> str:
    body = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}], "user": "ann"}
    return (await running.client.post("/v1/chat/completions", json=body)).json()["id"]


@pytest.fixture
def votes_past_the_router(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what was put by the quick way, as it is."""
    seen: list[Any] = []
    put_vote: Any = feedback.put_vote

    async def noted(runtime: Any, caller: Any, completion_id: str, body: Any) -> Any:
        seen.append(body)
        return await put_vote(runtime, caller, completion_id, body)

    class Feedback:
        router = feedback.router

    Feedback.put_vote = staticmethod(noted)  # type: ignore[attr-defined]
    monkeypatch.setattr(quick_votes, "feedback", Feedback)
    return seen


async def put(running: RunningApp, completion_id: str, body: bytes, kind: str) -> httpx.Response:
    return await running.client.put(
        f"/v1/feedback/{completion_id}", content=body, headers={"content-type": kind}
    )


def said(answer: httpx.Response) -> tuple[Any, ...]:
    """Return all of an answer but what differs between any two."""
    headers = {k: v for k, v in answer.headers.items() if k != "x-request-id"}
    return answer.status_code, headers, answer.json()


@pytest.mark.parametrize("body", BODIES)
async def test_both_ways_answer_alike(
    running: RunningApp, completion_id: str, votes_past_the_router: list[Any], body: bytes
) -> None:
    by_the_route = said(await put(running, completion_id, body, BY_THE_ROUTE))
    assert not votes_past_the_router
    assert said(await put(running, completion_id, body, QUICK)) == by_the_route
    well_formed = by_the_route[0] == 200 or by_the_route[2]["error"]["code"] in {
        "completion_not_found",
        "invalid_vote",
    }
    assert len(votes_past_the_router) == int(well_formed)


async def test_an_id_may_be_spelled_with_percent_signs(
    running: RunningApp, completion_id: str
) -> None:
    spelled = completion_id.replace("-", "%2D")
    assert (await put(running, spelled, BODIES[0], QUICK)).json()["completion_id"] == completion_id


async def test_a_body_may_come_in_pieces(running: RunningApp, completion_id: str) -> None:
    async def pieces() -> Any:
        for byte in BODIES[0]:
            yield bytes([byte])

    answer = await running.client.put(
        f"/v1/feedback/{completion_id}", content=pieces(), headers={"content-type": QUICK}
    )
    assert answer.json()["thumb"] == "up"


async def test_a_body_that_is_too_large_is_refused(running: RunningApp, completion_id: str) -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 100_000

    answer = await running.client.put(
        f"/v1/feedback/{completion_id}", content=endless(), headers={"content-type": QUICK}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


async def test_without_redis_it_is_a_503_that_says_when_to_come_again(
    running: RunningApp, completion_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("Redis cannot be reached.")

    monkeypatch.setattr(running.runtime.store.votes, "put", away)
    quick, by_the_route = [
        said(await put(running, completion_id, BODIES[0], kind)) for kind in (QUICK, BY_THE_ROUTE)
    ]
    assert quick == by_the_route
    assert (quick[0], quick[1]["retry-after"]) == (503, "1")


async def test_both_ways_are_counted_under_one_route(
    running: RunningApp, completion_id: str
) -> None:
    for kind in (QUICK, BY_THE_ROUTE):
        await put(running, completion_id, BODIES[0], kind)
    figures = (await running.client.get("/metrics")).text
    route = 'method="PUT",route="/v1/feedback/{completion_id}",status="200"'
    assert f"thumbloop_requests_total{{{route}}} 2.0" in figures


@pytest.mark.parametrize("method", ["POST", "PATCH", "HEAD"])
async def test_other_methods_are_counted_under_the_route_too(
    running: RunningApp, completion_id: str, method: str
) -> None:
    answer = await running.client.request(method, f"/v1/feedback/{completion_id}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "PUT")
    figures = (await running.client.get("/metrics")).text
    route = f'method="{method}",route="/v1/feedback/{{completion_id}}",status="405"'
    assert f"thumbloop_requests_total{{{route}}} 1.0" in figures


async def test_the_route_stays_described(running: RunningApp) -> None:
    described = json.loads((await running.client.get("/openapi.json")).content)
    assert "put" in described["paths"]["/v1/feedback/{completion_id}"]
