from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from feedback.types import Audit, Judgement
from models.versions import Activate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from feedback.store import Store
    from tests.support.service.application import RunningApp, SayHi

    Post = Callable[..., Awaitable[Any]]


pytestmark = pytest.mark.anyio

V1 = "v000001-000000000001"
V2 = "v000002-000000000002"
BROKEN = "v000009-000000000009"


@pytest.fixture(autouse=True)
async def versions(store: Store) -> None:
    """Approved versions; the generator can load all of them but one."""
    for version, parent in ((V1, "base"), (V2, V1), (BROKEN, V1)):
        await store.versions.add(version, parent=parent, manifest={}, state="approved", now=5.0)


@pytest.fixture
def post(running: RunningApp) -> Post:
    """Return a function that posts to a route of the rollout and returns what it answers."""

    async def send(what: str, status: int = 200, **body: Any) -> Any:
        answer = await running.client.post(f"/admin/rollout/{what}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    return send


async def test_a_canary_is_started_changed_and_stopped(
    running: RunningApp, store: Store, post: Post
) -> None:
    started = await post("canary", version=V2, fraction=0.1, why="a try")
    assert (started["canary"], started["fraction"], started["live"]) == (V2, 0.1, "base")
    assert (await post("canary", version=V2, fraction=1))["fraction"] == 1
    busy = await post("canary", 409, version=V1, fraction=0.1)
    assert "one at a time" in busy["error"]["message"]
    other = {"expected": V1}
    moved = await running.client.delete("/admin/rollout/canary", params=other)
    assert moved.status_code == 409
    stopped = await running.client.delete("/admin/rollout/canary", params={"why": "enough"})
    assert (stopped.status_code, stopped.json()["canary"]) == (200, None)
    event = (await store.rollout.events(1))[0]
    assert (event.action, event.why, event.who) == ("stop_canary", "enough", "open")
    assert (await running.client.delete("/admin/rollout/canary")).status_code == 409


async def test_the_kill_switch_works_without_a_body_and_waits_for_nothing_to_load(
    running: RunningApp, store: Store, post: Post
) -> None:
    await post("activate", version=V1)
    await post("canary", version=V2, fraction=0.5)
    killed = await running.client.post("/admin/rollout/kill")
    assert killed.status_code == 200
    assert (killed.json()["live"], killed.json()["canary"]) == ("base", None)
    assert (await running.client.get("/admin/rollout")).json()["paused"] is True
    assert [event.action for event in await store.rollout.events(1)] == ["kill"]


async def test_the_live_version_is_confirmed(store: Store, post: Post) -> None:
    await store.rollout.do(Activate(V1), Audit("learner", "run 1", 6.0))
    assert (await post("confirm", version=V1))["confirmed"] == V1
    await post("confirm", 409, version=V2)
    await post("confirm", 409, version=V1, expected_confirmed=V2)


async def test_a_version_that_cannot_be_loaded_changes_nothing(store: Store, post: Post) -> None:
    for what, body in (("activate", {}), ("canary", {"fraction": 0.1}), ("rollback", None)):
        named = {"to": BROKEN} if body is None else {"version": BROKEN, **body}
        refused = (await post(what, 409, **named))["error"]
        assert refused["code"] == "version_unavailable"
        assert "nothing was changed" in refused["message"]
    assert {event.action for event in await store.rollout.events()} == {"import"}


async def test_waiting_tells_whether_all_replicas_have_it(
    running: RunningApp, store: Store, post: Post
) -> None:
    done = await post("activate", version=V1, wait=10)
    assert done["settled"]["all"]
    assert done["settled"]["replicas"] == 1
    assert running.runtime.watcher.serving == V1
    assert "settled" not in await post("activate", version=V2)


@pytest.mark.parametrize("what", ["rollback", "kill"])
async def test_a_dry_run_says_what_would_change(store: Store, post: Post, what: str) -> None:
    await post("activate", version=V1)
    before = await store.rollout.get()
    dry = await post(what, dry_run=True)
    assert dry["dry_run"] is True
    assert dry["rollout"]["live"] == "base"
    assert [each["version"] for each in dry["moves"]] == [V1]
    assert dry["pauses_learning"] is (what == "kill")
    assert await store.rollout.get() == before


async def test_a_canary_s_end_can_be_tried_out(
    running: RunningApp, store: Store, post: Post
) -> None:
    await post("canary", version=V2, fraction=0.5)
    dry = await running.client.delete("/admin/rollout/canary", params={"dry_run": "true"})
    assert dry.json()["moves"] == [{"version": V2, "old": "canary", "new": "approved"}]
    assert (await store.rollout.get()).canary == V2


async def test_the_rollout_comes_with_the_judge_s_last_verdict(
    running: RunningApp, store: Store
) -> None:
    assert (await running.client.get("/admin/rollout")).json()["judgement"] is None
    judgement = Judgement(7.0, "hold", (V2,), ("base",), ("too few",), 12, {"together": True})
    await store.judging.write(judgement)
    found = (await running.client.get("/admin/rollout")).json()
    assert found["judgement"] == {
        **asdict(judgement),
        "test": [V2],
        "control": ["base"],
        "reasons": ["too few"],
    }
    assert found["paused"] is False


@pytest.mark.parametrize(
    ("what", "body", "param"),
    [
        ("activate", {"version": V1, "expect_live": "base"}, "expect_live"),
        ("activate", {}, "version"),
        ("activate", {"version": V1, "wait": -1}, "wait"),
        ("activate", {"version": V1, "wait": 301}, "wait"),
        ("activate", {"version": V1, "wait": "5"}, "wait"),
        ("activate", {"version": V1, "why": "x" * 501}, "why"),
        ("activate", {"version": 7}, "version"),
        ("rollback", {"version": V1}, "version"),
        ("canary", {"version": V1}, "fraction"),
        ("canary", {"version": V1, "fraction": 0}, "fraction"),
        ("canary", {"version": V1, "fraction": 1.01}, "fraction"),
        ("canary", {"version": V1, "fraction": "0.5"}, "fraction"),
        ("kill", {"version": "base"}, "version"),
        ("kill", {"dry_run": "yes"}, "dry_run"),
        ("confirm", {}, "version"),
    ],
)
async def test_what_is_not_understood_is_refused(
    store: Store, post: Post, what: str, body: dict[str, Any], param: str
) -> None:
    assert (await post(what, 400, **body))["error"]["param"] == param
    assert {event.action for event in await store.rollout.events()} == {"import"}


@pytest.mark.parametrize(
    ("path", "params", "param"),
    [
        ("/admin/versions", {"limit": "0"}, "limit"),
        ("/admin/versions", {"page": "2"}, "page"),
        (f"/admin/versions/{V1}", {"text": "true"}, "text"),
        ("/admin/audit", {"limit": "1001"}, "limit"),
        ("/admin/audit", {"limit": "x"}, "limit"),
        ("/admin/audit", {"before": "yesterday"}, "before"),
        ("/admin/audit", {"before": "99999999999999999999-0"}, "before"),
        ("/admin/audit", {"before": "\u0661-\u0661"}, "before"),
        ("/admin/audit", {"after": "1-0"}, "after"),
        ("/admin/explain/c1", {"texts": "maybe"}, "texts"),
        ("/admin/updates", {"limit": "-1"}, "limit"),
    ],
)
async def test_a_query_that_is_not_understood_is_refused(
    running: RunningApp, path: str, params: dict[str, str], param: str
) -> None:
    answer = await running.client.get(path, params=params)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    stopped = await running.client.delete("/admin/rollout/canary", params={"version": V1})
    assert stopped.status_code == 400


async def test_all_of_it_needs_the_scope_admin(running: RunningApp, store: Store) -> None:
    _, chat = await store.keys.create("chat", frozenset({"chat"}), now=1.0)
    await running.runtime.authenticator.refresh()
    headers = {"authorization": f"Bearer {chat}"}
    calls = [
        ("POST", "rollout/activate"),
        ("POST", "rollout/rollback"),
        ("POST", "rollout/confirm"),
        ("POST", "rollout/canary"),
        ("POST", "rollout/kill"),
        ("DELETE", "rollout/canary"),
        ("GET", "rollout"),
        ("GET", "versions"),
        ("GET", f"versions/{V1}"),
        ("GET", f"versions/{V1}/history"),
        ("GET", "audit"),
        ("GET", "explain/c1"),
        ("POST", "learning/pause"),
    ]
    for method, path in calls:
        answer = await running.client.request(method, f"/admin/{path}", headers=headers)
        assert answer.status_code == 403, path
        assert (await running.client.request(method, f"/admin/{path}")).status_code == 401
    assert (await store.rollout.get()).generation == 0


async def test_the_audit_is_read_page_by_page(
    running: RunningApp, store: Store, post: Post
) -> None:
    for version in (V1, V2, V1):
        await post("activate", version=version)

    async def read(path: str, **params: Any) -> tuple[list[str], str | None]:
        answer = (await running.client.get(path, params=params)).json()
        return [event["new"] for event in answer["data"]], answer["next"]

    first, following = await read("/admin/audit", limit=2)
    assert first == [V1, V2]
    rest, end = await read("/admin/audit", limit=100, before=following)
    assert (rest[0], end) == (V1, None)
    of_v2, _ = await read("/admin/audit", version=V2)
    assert of_v2[:2] == [V1, V2]  # it was replaced, and before that made live
    assert (await read(f"/admin/versions/{V2}/history"))[0] == of_v2
    unknown = "v000008-000000000008"
    for path in (f"/admin/audit?version={unknown}", f"/admin/versions/{unknown}/history"):
        assert (await running.client.get(path)).status_code == 404


async def test_who_did_it_is_the_key(running: RunningApp, store: Store, post: Post) -> None:
    key, whole = await store.keys.create("ops", frozenset({"admin"}), now=1.0)
    await running.runtime.authenticator.refresh()
    running.client.headers["authorization"] = f"Bearer {whole}"
    await post("activate", version=V1)
    assert (await store.rollout.events(1))[0].who == key.public_id
    row = (await running.client.get(f"/admin/versions/{V1}")).json()
    assert (row["changed_by"], row["roles"]) == (key.public_id, ["live", "confirmed"])


async def test_a_reply_is_explained_without_texts_unless_they_are_asked_for(
    running: RunningApp, store: Store, chat: SayHi
) -> None:
    completion_id = (await chat(running, user="ann")).json()["id"]
    vote = {"thumb": "up", "comment": "so so", "user": "ann"}
    await running.client.put(f"/v1/feedback/{completion_id}", json=vote)
    answer = await running.client.get(f"/admin/explain/{completion_id}")
    found = answer.json()
    assert (found["version"], found["by_base"], found["made"]) == ("base", True, None)
    assert (found["vote"]["thumb"], found["vote"]["state"]) == ("up", "pending")
    assert (found["learned_by"], found["texts"]) == ([], None)
    assert "so so" not in answer.text
    asked = await running.client.get(f"/admin/explain/{completion_id}", params={"texts": "true"})
    assert asked.json()["texts"]["comment"] == "so so"
    unknown = await running.client.get("/admin/explain/none")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "completion_not_found")


async def test_a_version_comes_with_what_made_it(running: RunningApp, store: Store) -> None:
    made = (await running.client.get(f"/admin/versions/{V2}")).json()["made"]
    assert [step["version"] for step in made["chain"]] == [V2, V1]
    assert (made["whole"], made["votes"], made["chain"][0]["origin"]) == (True, [], "imported")
