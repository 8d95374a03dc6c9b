from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from feedback.errors import StoreUnavailableError

if TYPE_CHECKING:
    from feedback.store import Store
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import RunningApp

pytestmark = pytest.mark.anyio

V1, V2 = "v000001-000000000001", "v000002-000000000002"


@pytest.fixture
async def versions(store: Store) -> None:
    for version, state in ((V1, "approved"), (V2, "candidate")):
        await store.versions.add(version, parent="base", manifest={}, state=state, now=5.0)


async def test_the_models_are_the_policy_the_base_and_the_loadable_versions(
    running: RunningApp, versions: None
) -> None:
    answer = (await running.client.get("/v1/models")).json()
    assert answer["object"] == "list"
    assert [model["id"] for model in answer["data"]] == ["policy", "base", f"policy@{V1}"]
    assert answer["data"][2] == {
        "id": f"policy@{V1}",
        "object": "model",
        "created": 5,
        "owned_by": "thumbloop",
        "max_model_len": 200,
    }
    assert all(model["created"] > 0 for model in answer["data"])


async def test_what_operators_try_is_no_offer(running: RunningApp, versions: None) -> None:
    await running.runtime.watcher.pin(V2)
    models = (await running.client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["policy", "base", f"policy@{V1}"]


async def test_a_version_without_weights_is_no_offer_unless_it_is_loaded(
    running: RunningApp, versions: None, store: Store
) -> None:
    async def listed() -> list[str]:
        models = (await running.client.get("/v1/models")).json()["data"]
        return [model["id"] for model in models]

    await store.versions.note_removed(V1)
    assert await listed() == ["policy", "base"]
    await running.runtime.watcher.pin(V1)
    assert await listed() == ["policy", "base", f"policy@{V1}"]


async def test_one_model_can_be_read(running: RunningApp, versions: None) -> None:
    assert (await running.client.get(f"/v1/models/policy@{V1}")).json()["created"] == 5
    unknown = await running.client.get("/v1/models/gpt-5")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"


async def test_without_redis_the_loaded_versions_are_listed(
    running: RunningApp, generator: FakeGenerator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone() -> None:
        raise StoreUnavailableError("Away.")

    monkeypatch.setattr(store.versions, "list", gone)
    await running.runtime.watcher.pin(V2)
    models = (await running.client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["policy", "base", f"policy@{V2}"]
