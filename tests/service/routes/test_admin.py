from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.service.application import Happens, RunningApp

pytestmark = pytest.mark.anyio

V1 = "v000001-000000000001"
V2 = "v000002-000000000002"


@pytest.fixture
async def versions(store: Store) -> None:
    for version, parent in ((V1, "base"), (V2, V1)):
        await store.versions.add(
            version, parent=parent, manifest={"version": version}, state="approved", now=5.0
        )


async def get(running: RunningApp, path: str) -> Any:
    answer = await running.client.get(path)
    assert answer.status_code == 200
    return answer.json()


async def test_versions_are_listed_with_what_people_think_of_them(
    running: RunningApp, versions: None
) -> None:
    rows = (await get(running, "/admin/versions"))["data"]
    assert [row["version"] for row in rows] == [V2, V1, "base"]
    newest = rows[0]
    assert newest["parent"] == V1
    assert newest["state"] == "approved"
    assert newest["approval"] is None
    assert [row["live"] for row in rows] == [False, False, True]
    for name in ("up", "down", "completions", "created_at", "run", "reason", "figures"):
        assert name in newest


async def test_a_vote_shows_in_the_approval_of_its_version(
    running: RunningApp, versions: None
) -> None:
    body = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}]}
    for thumb in ("up", "up", "down"):
        reply = (await running.client.post("/v1/chat/completions", json=body)).json()
        await running.client.put(f"/v1/feedback/{reply['id']}", json={"thumb": thumb})
    base = await get(running, "/admin/versions/base")
    assert base["approval"] == pytest.approx(2 / 3)
    assert (base["up"], base["down"], base["completions"]) == (2, 1, 3)


async def test_one_version_comes_with_its_manifest(running: RunningApp, versions: None) -> None:
    assert (await get(running, f"/admin/versions/{V1}"))["manifest"] == {"version": V1}
    unknown = await running.client.get("/admin/versions/v000009-000000000009")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "version_not_found"


async def test_activate_makes_the_next_replies_come_from_the_version(
    running: RunningApp, versions: None, happens: Happens
) -> None:
    answer = await running.client.post(
        "/admin/rollout/activate", json={"version": V1, "expected_live": "base"}
    )
    assert answer.status_code == 200
    assert answer.json()["live"] == V1
    await happens(lambda: running.runtime.watcher.serving == V1)
    body = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}]}
    reply = (await running.client.post("/v1/chat/completions", json=body)).json()
    assert reply["system_fingerprint"] == V1
    rollout = await get(running, "/admin/rollout")
    assert rollout["live"] == V1
    assert rollout["previous"] == "base"
    assert rollout["serving"] == V1
    assert rollout["problem"] is None
    assert rollout["stale"] is False


async def test_a_rollout_that_moved_on_is_a_conflict(running: RunningApp, versions: None) -> None:
    answer = await running.client.post(
        "/admin/rollout/activate", json={"version": V1, "expected_live": V2}
    )
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "rollout_conflict"
    for version, status in (("v000009-000000000009", 404), ("v9", 400), ("../../x", 400)):
        unknown = await running.client.post("/admin/rollout/activate", json={"version": version})
        assert unknown.status_code == status


async def test_rollback_goes_back_and_the_audit_tells(running: RunningApp, versions: None) -> None:
    nothing = await running.client.post("/admin/rollout/rollback")
    assert nothing.status_code == 409
    await running.client.post("/admin/rollout/activate", json={"version": V1})
    back = await running.client.post("/admin/rollout/rollback", json={"why": "It rambles."})
    assert back.json()["live"] == "base"
    events = (await get(running, "/admin/audit"))["data"]
    assert [(event["old"], event["new"]) for event in events[:2]] == [(V1, "base"), ("base", V1)]
    assert events[0]["who"] == "open"
    assert events[0]["why"] == "It rambles."


async def test_every_replica_says_what_it_serves(
    running: RunningApp, versions: None, happens: Happens
) -> None:
    await running.client.post("/admin/rollout/activate", json={"version": V1})
    watcher = running.runtime.watcher
    await happens(lambda: watcher.serving == V1)
    await watcher.look()
    rows = (await get(running, "/admin/rollout"))["replicas"]
    assert rows[0]["id"] == running.runtime.watcher.replica_id
    assert set(rows[0]["loaded"]) == {"base", V1}


async def test_an_update_can_be_asked_for(running: RunningApp, store: Store) -> None:
    asked = await running.client.post("/admin/updates")
    assert asked.status_code == 202
    request = asked.json()
    listed = await get(running, "/admin/updates")
    assert listed["data"] == []
    assert [row["id"] for row in listed["requests"]] == [request["id"]]
    await store.learning.answer(request["id"], run=None, answer="No votes wait.")
    answered = await get(running, f"/admin/updates/requests/{request['id']}")
    assert answered["state"] == "answered"
    assert answered["answer"] == "No votes wait."
    assert (await running.client.get("/admin/updates/requests/none")).status_code == 404
    assert (await running.client.get("/admin/updates/7")).status_code == 404
    assert (await running.client.get("/admin/updates/x")).status_code == 400


async def test_a_run_is_shown_with_its_batch(
    running: RunningApp, store: Store, service_settings: ServiceSettings
) -> None:
    body = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}]}
    reply = (await running.client.post("/v1/chat/completions", json=body)).json()
    await running.client.put(f"/v1/feedback/{reply['id']}", json={"thumb": "up"})
    from feedback.batching import choose

    batch = choose(await store.votes.waiting(10), max_votes=10, max_user_share=1.0)
    claimed = await store.runs.claim(batch, parent="base", min_votes=1, now=7.0)
    run = await get(running, f"/admin/updates/{claimed.number}")
    assert run["votes"] == 1
    assert run["batch"] == [{"completion_id": reply["id"], "revision": 1, "score": 1.0}]
    assert run["state"] == "claimed"
    assert run["parent"] == "base"
    assert [row["number"] for row in (await get(running, "/admin/updates"))["data"]] == [
        claimed.number
    ]


async def test_learning_can_be_paused_and_resumed(running: RunningApp, store: Store) -> None:
    paused = (await running.client.post("/admin/learning/pause")).json()
    assert paused["paused"] is True
    assert paused["waiting_votes"] == 0
    assert await store.learning.paused()
    resumed = (await running.client.post("/admin/learning/resume")).json()
    assert resumed["paused"] is False
    await store.learning.looked(0.0)
    learning = (await get(running, "/admin/updates"))["learning"]
    assert learning["seconds_since_last_look"] > 0


@pytest.mark.parametrize("limit", [0, 1001, "x"])
async def test_a_list_has_bounds(running: RunningApp, limit: Any) -> None:
    answer = await running.client.get("/admin/audit", params={"limit": limit})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "limit"
