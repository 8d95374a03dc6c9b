"""A whole simulation against a server that is a function."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.simulate import run as run_module
from service.simulate.client import Api
from service.simulate.errors import RequestFailedError, SimulationError
from service.simulate.prompts import Prompts
from service.simulate.records import MOST_FAILURES_IN_A_ROW, SimulationPlan
from service.simulate.run import Simulation
from service.simulate.tastes import TASTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio
VOTES_AN_UPDATE = 8


class FakeServer:
    """Answers like a server whose every eighth vote makes a version with shorter replies."""

    def __init__(self) -> None:
        self.live = "base"
        self.votes: dict[str, dict[str, Any]] = {}
        self.chats: list[dict[str, Any]] = []
        self.broken = False
        self.gone: set[str] = set()
        self.updating = False
        self.updating_until_votes: int | None = None
        self.paused = False
        self.waiting_votes = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.broken:
            return httpx.Response(500, json={"error": {"message": "broken"}})
        body = json.loads(request.content) if request.content else {}
        if request.url.path.removeprefix("/v1/models/policy@") in self.gone:
            return httpx.Response(404, json={"error": {"message": "does not exist"}})
        if request.url.path == "/v1/chat/completions":
            return httpx.Response(200, json=self.chat(body))
        if request.url.path.startswith("/v1/feedback/"):
            self.vote(request.url.path.rpartition("/")[2], body)
            return httpx.Response(200, json={})
        if request.url.path == "/admin/rollout":
            return httpx.Response(200, json={"live": self.live})
        state = "claimed" if self.updating else "approved"
        learning = {"paused": self.paused, "waiting_votes": self.waiting_votes, "min_votes": 8}
        runs = [{"number": 1, "state": state}]
        return httpx.Response(200, json={"data": runs, "learning": learning})

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        self.chats.append(body)
        asked = body["model"]
        version = self.live if asked == "policy" else asked.removeprefix("policy@")
        length = 50 if version == "base" else 10
        message = {"role": "assistant", "content": " ".join(["word"] * length)}
        return {
            "id": f"chatcmpl-{len(self.chats)}",
            "choices": [{"message": message}],
            "system_fingerprint": version,
            "recorded": True,
        }

    def vote(self, completion_id: str, body: dict[str, Any]) -> None:
        self.votes[completion_id] = body
        if len(self.votes) == self.updating_until_votes:
            self.updating = False
        if len(self.votes) % VOTES_AN_UPDATE == 0:
            self.live = f"v{len(self.votes):06d}-0123456789ab"


def make_plan(**changes: Any) -> SimulationPlan:
    values: dict[str, Any] = {
        "taste": TASTES["brief"],
        "users": 4,
        "votes": 16,
        "rate": 1.0,
        "flip": 0.0,
        "seed": 0,
        "pace": True,
        "max_tokens": 48,
        "concurrency": 1,
        "score_replies": 12,
    }
    return SimulationPlan(**values | changes)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
async def api(server: FakeServer) -> AsyncIterator[Api]:
    transport = httpx.MockTransport(server)
    async with httpx.AsyncClient(transport=transport, base_url="http://sim") as http:
        yield Api(http)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(run_module, "_QUIET_SECONDS", 0.02)


PROMPTS = Prompts(chat=("a", "b", "c"), score=("d", "e"))


async def test_a_simulation_votes_and_measures_the_base_and_the_versions(
    api: Api, server: FakeServer
) -> None:
    result = await Simulation(api, make_plan(), PROMPTS).run()

    assert len(server.votes) == 16
    assert result.started_from == "base"
    assert result.versions_live[-1] == "v000016-0123456789ab"
    assert result.scores[0].version == "base"
    assert (result.scores[0].approved, result.scores[0].replies) == (0, 12)
    assert result.scores[-1].version == "v000016-0123456789ab"
    assert (result.scores[-1].approved, result.scores[-1].replies) == (12, 12)
    assert result.scores[-1].mean_words == 10
    assert result.failures == ()
    assert json.loads(json.dumps(result.as_dict()))["scores"][-1]["approval"] == 1.0


async def test_measured_replies_are_pinned_fresh_and_not_voted_on(
    api: Api, server: FakeServer
) -> None:
    await Simulation(api, make_plan(), PROMPTS).run()

    measured = server.chats[16:]
    assert {body["messages"][0]["content"] for body in server.chats[:16]} == {"a", "b", "c"}
    assert {body["messages"][0]["content"] for body in measured} == {"d", "e"}
    assert "policy" not in {body["model"] for body in measured}
    assert len(server.votes) == 16
    # A question is not always judged by the same person.
    assert len({body["user"] for body in measured if body["messages"][0]["content"] == "d"}) > 1


async def test_versions_that_have_lost_their_weights_are_not_measured(
    api: Api, server: FakeServer
) -> None:
    old, kept = "v000001-0123456789ab", "v000002-0123456789ab"
    server.gone = {old}
    simulation = Simulation(api, make_plan(), PROMPTS)
    simulation.tally.see(old)
    simulation.tally.see(kept)
    result = await simulation.run()
    assert [score.version for score in result.scores] == ["base", kept, "v000016-0123456789ab"]
    assert {score.replies for score in result.scores} == {12}
    assert result.failures == ()


async def test_every_vote_names_its_user_and_the_rate_leaves_replies_without_one(
    api: Api, server: FakeServer
) -> None:
    result = await Simulation(api, make_plan(rate=0.5), PROMPTS).run()

    assert len(server.votes) == 16
    assert result.chats > 16
    for completion_id, vote in server.votes.items():
        asked = server.chats[int(completion_id.rpartition("-")[2]) - 1]
        assert vote["user"] == asked["user"]


async def test_users_wait_while_an_update_is_learned(api: Api, server: FakeServer) -> None:
    server.updating = True
    simulation = Simulation(api, make_plan(), PROMPTS)
    task = asyncio.create_task(simulation.run())
    await asyncio.sleep(0.05)
    assert server.chats == []
    server.updating = False
    await task
    assert len(server.votes) == 16


async def test_users_wait_for_an_update_that_is_due(
    api: Api, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_QUIET_SECONDS", 60.0)
    server.waiting_votes = 8
    simulation = Simulation(api, make_plan(), PROMPTS)
    task = asyncio.create_task(simulation.run())
    await asyncio.sleep(0.05)
    assert server.chats == []
    server.waiting_votes = 7
    await asyncio.sleep(0.05)
    assert len(server.votes) == 16
    task.cancel()


async def test_nobody_waits_for_an_update_that_never_begins(api: Api, server: FakeServer) -> None:
    server.waiting_votes = 8
    await Simulation(api, make_plan(), PROMPTS).run()
    assert len(server.votes) == 16


async def test_nobody_waits_for_an_update_while_learning_is_paused(
    api: Api, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_QUIET_SECONDS", 60.0)
    server.waiting_votes, server.paused = 8, True
    task = asyncio.create_task(Simulation(api, make_plan(), PROMPTS).run())
    await asyncio.sleep(0.1)
    assert len(server.votes) == 16
    task.cancel()


async def test_without_pacing_nobody_waits(api: Api, server: FakeServer) -> None:
    server.updating = True
    server.updating_until_votes = 16
    await Simulation(api, make_plan(pace=False), PROMPTS).run()
    assert len(server.votes) == 16


async def test_many_failures_in_a_row_end_the_simulation(api: Api, server: FakeServer) -> None:
    simulation = Simulation(api, make_plan(), PROMPTS)
    original = server.chat

    def fail_after_three(body: dict[str, Any]) -> dict[str, Any]:
        server.broken = len(server.chats) >= 3
        return original(body)

    server.chat = fail_after_three  # type: ignore[method-assign]
    with pytest.raises(SimulationError, match="failed in a row"):
        await simulation.run()
    assert simulation.tally.failures_in_a_row == MOST_FAILURES_IN_A_ROW


async def test_a_server_that_refuses_is_told_at_once(api: Api, server: FakeServer) -> None:
    server.broken = True
    with pytest.raises(RequestFailedError, match="500 broken"):
        await Simulation(api, make_plan(), PROMPTS).run()


async def test_a_server_that_is_away_is_told_with_what_to_do() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    transport = httpx.MockTransport(refuse)
    async with httpx.AsyncClient(transport=transport, base_url="http://sim") as http:
        with pytest.raises(RequestFailedError, match="thumbloop up"):
            await Api(http).live()
