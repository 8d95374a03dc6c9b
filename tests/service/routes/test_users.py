from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from feedback.errors import UnknownUserError
from feedback.types import Person

if TYPE_CHECKING:
    from feedback.store import Store
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import RunningApp, SayHi, StartApp

pytestmark = pytest.mark.anyio


@pytest.fixture
async def voted(running: RunningApp, chat: SayHi) -> str:
    """Have `ann` chat and vote; return her reply's id."""
    completion_id: str = (await chat(running, user="ann/1")).json()["id"]
    vote = {"thumb": "up", "comment": "Mine", "user": "ann/1"}
    assert (await running.client.put(f"/v1/feedback/{completion_id}", json=vote)).is_success
    await chat(running, user="bob")
    return completion_id


async def test_a_user_is_deleted_whole(running: RunningApp, store: Store, voted: str) -> None:
    before = await running.client.delete("/admin/users/ann%2F1", params={"dry_run": "true"})
    assert before.json() == {
        "user": "ann/1",
        "owner": "open",
        "completions": 1,
        "votes": 1,
        "versions": [],
        "runs": [],
        "rewrite": "",
        "dry_run": True,
    }
    assert await store.completions.get(voted) is not None
    answer = await running.client.delete("/admin/users/ann/1")
    assert answer.status_code == 200
    assert answer.json()["completions"] == 1
    assert answer.json()["rewrite"] in {"started", "wanted"}
    assert await store.completions.get(voted) is None
    gone = await running.client.get(f"/v1/feedback/{voted}", params={"user": "ann/1"})
    assert gone.status_code == 404
    assert (await store.users.find(Person("open", "bob"))).completions == 1
    audit = (await running.client.get("/admin/audit")).json()["data"][0]
    assert (audit["action"], audit["who"], audit["why"]) == ("delete_user", "open", "1 replies")


async def test_a_user_that_is_not_there_is_a_404(running: RunningApp, voted: str) -> None:
    answer = await running.client.delete("/admin/users/nobody")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "user_not_found"


async def test_with_keys_the_owner_must_be_named_and_the_scope_be_there(
    start_app: StartApp, service_settings: ServiceSettings, generator: FakeGenerator, store: Store
) -> None:
    _, admin = await store.keys.create("ops", frozenset({"admin"}), now=1.0)
    key, shop = await store.keys.create("shop", frozenset({"chat"}), now=1.0)
    async with start_app(service_settings, generator, store) as running:

        async def call(method: str, path: str, secret: str, **named: Any) -> Any:
            headers = {"authorization": f"Bearer {secret}"}
            return await running.client.request(method, path, headers=headers, **named)

        said = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}], "user": "ann"}
        assert (await call("POST", "/v1/chat/completions", shop, json=said)).is_success
        assert (await call("DELETE", "/admin/users/ann", shop)).status_code == 403
        unnamed = await call("DELETE", "/admin/users/ann", admin)
        assert unnamed.status_code == 400
        assert unnamed.json()["error"]["code"] == "owner_needed"
        assert unnamed.json()["error"]["param"] == "owner"
        assert key.public_id in unnamed.json()["error"]["message"]
        named = {"owner": key.public_id}
        deleted = await call("DELETE", "/admin/users/ann", admin, params=named)
        assert deleted.json()["completions"] == 1
    with pytest.raises(UnknownUserError):
        await store.users.find(Person(key.public_id, "ann"))


async def test_without_redis_a_deletion_is_a_503(
    start_app: StartApp,
    service_settings: ServiceSettings,
    generator: FakeGenerator,
    store: Store,
    away: Store,
) -> None:
    async with start_app(service_settings, generator, store) as running:
        running.runtime.store = away
        answer = await running.client.delete("/admin/users/ann")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "store_unavailable"
