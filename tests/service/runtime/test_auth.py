from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from feedback.errors import StoreUnavailableError
from service.errors import ConfigurationError, NotReadyError, UnauthorizedError
from service.following.last_known import LastKnown
from service.runtime.auth import Authenticator
from service.runtime.feedback_tokens import FeedbackTokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

    from feedback.store import Store
    from feedback.types import ApiKey, Scope
    from service.settings import ServiceSettings
    from tests.support.generators.fake import FakeGenerator
    from tests.support.service.application import Happens, RunningApp, StartApp

    MakeKey = Callable[..., Awaitable[tuple[ApiKey, str]]]


pytestmark = pytest.mark.anyio

CHAT = {"model": "policy", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
async def make_key(store: Store) -> MakeKey:
    async def make(*scopes: Scope) -> tuple[ApiKey, str]:
        return await store.keys.create("k", frozenset(scopes), now=1.0)

    return make


def _authenticator(store: Store, settings: ServiceSettings) -> Authenticator:
    tokens = FeedbackTokens(store, settings.feedback_token_ttl, settings.record_timeout)
    return Authenticator(store, settings, LastKnown(settings.data_dir), tokens)


@pytest.fixture
def authenticator(store: Store, service_settings: ServiceSettings) -> Authenticator:
    return _authenticator(store, service_settings)


def bearer(key: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def ask(running: RunningApp, key: str | None, path: str = "/v1/models") -> httpx.Response:
    return await running.client.get(path, headers=bearer(key) if key else {})


async def keyed(running: RunningApp) -> None:
    await running.runtime.authenticator.refresh()


async def test_the_first_key_closes_the_server_while_it_runs(
    running: RunningApp, make_key: MakeKey, happens: Happens
) -> None:
    assert (await ask(running, None)).status_code == 200
    _, key = await make_key("chat")
    await happens(lambda: running.runtime.authenticator.keyed)
    refused = await ask(running, None)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["error"]["type"] == "authentication_error"
    assert (await ask(running, key)).status_code == 200


async def test_a_key_made_over_http_counts_at_once(running: RunningApp) -> None:
    made = await running.client.post("/admin/keys", json={"name": "front", "scopes": ["chat"]})
    assert made.status_code == 201
    assert (await ask(running, None)).status_code == 401
    assert (await ask(running, made.json()["key"])).status_code == 200


async def test_no_operators_route_opens_to_a_key_for_chats(
    running: RunningApp, make_key: MakeKey
) -> None:
    paths = (await running.client.get("/openapi.json")).json()["paths"]
    _, key = await make_key("chat")
    await running.runtime.authenticator.refresh()
    running.client.headers["authorization"] = f"Bearer {key}"
    routes = [(method, path) for path, of in paths.items() for method in of if "/admin" in path]
    assert len(routes) > 20
    for method, path in routes:
        answer = await running.client.request(method, path, json={})
        assert answer.status_code == 403, (method, path)
        assert answer.json()["error"]["code"] == "insufficient_scope"


@pytest.mark.parametrize(
    ("scopes", "chat", "admin"),
    [(["chat"], 200, 403), (["admin"], 403, 200), (["chat", "admin"], 200, 200)],
)
async def test_each_scope_opens_its_own_routes(
    running: RunningApp, make_key: MakeKey, scopes: Any, chat: int, admin: int
) -> None:
    _, key = await make_key(*scopes)
    await keyed(running)
    assert (await ask(running, key)).status_code == chat
    answer = await ask(running, key, "/admin/rollout")
    assert answer.status_code == admin
    if admin == 403:
        assert answer.json()["error"]["code"] == "insufficient_scope"


async def test_every_route_but_the_public_ones_asks_for_a_key(
    running: RunningApp, make_key: MakeKey
) -> None:
    await make_key("chat")
    await keyed(running)
    schema = (await running.client.get("/openapi.json")).json()
    public = {"/livez", "/readyz", "/metrics"}
    asked = 0
    for path, methods in schema["paths"].items():
        for method in methods:
            answer = await running.client.request(method, path.replace("{", "").replace("}", ""))
            assert (answer.status_code == 401) == (path not in public), (method, path)
            asked += 1
    assert asked >= 20


@pytest.mark.parametrize(
    "key", ["x", "tl_", "tl_0123456789abcdef_" + "x" * 43, "sk-123", "tl_é_é", ""]
)
async def test_a_key_that_is_none_is_refused(
    running: RunningApp, make_key: MakeKey, key: Any
) -> None:
    await make_key("chat")
    await keyed(running)
    answer = await running.client.get(
        "/v1/models", headers={"authorization": f"Bearer {key}".encode()}
    )
    assert answer.status_code == 401


async def test_a_revoked_key_is_refused_at_once_and_opens_nothing(
    running: RunningApp, make_key: MakeKey
) -> None:
    key, whole = await make_key("chat", "admin")
    await keyed(running)
    assert (await ask(running, whole)).status_code == 200
    revoked = await running.client.delete(f"/admin/keys/{key.public_id}", headers=bearer(whole))
    assert revoked.json() == {"public_id": key.public_id, "revoked": True}
    assert (await ask(running, whole)).status_code == 401
    assert (await ask(running, None)).status_code == 401


async def test_requests_with_one_key_share_a_check_that_outlives_whoever_leaves(
    authenticator: Authenticator, store: Store, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, whole = await make_key("chat")
    await authenticator.refresh()
    verify, checks, may_go_on = store.keys.verify, [], asyncio.Event()

    async def slow(asked: str) -> Any:
        checks.append(asked)
        await may_go_on.wait()
        return await verify(asked)

    monkeypatch.setattr(store.keys, "verify", slow)
    first, *others = [
        asyncio.create_task(authenticator.identify({"authorization": f"Bearer {whole}"}))
        for _ in range(5)
    ]
    other_key = asyncio.create_task(authenticator.identify({"authorization": "Bearer tl_none"}))
    await asyncio.sleep(0.01)
    first.cancel()
    may_go_on.set()
    assert {caller.owner for caller in await asyncio.gather(*others)} == {key.public_id}
    with pytest.raises(UnauthorizedError):
        await other_key
    assert checks == [whole, "tl_none"]
    # What was found is not kept: the next request asks again.
    await store.keys.revoke(key.public_id)
    with pytest.raises(UnauthorizedError):
        await authenticator.identify({"authorization": f"Bearer {whole}"})


async def test_keys_are_listed_without_their_secrets(
    running: RunningApp, make_key: MakeKey
) -> None:
    _, whole = await make_key("admin")
    await keyed(running)
    answer = await ask(running, whole, "/admin/keys")
    assert [row["scopes"] for row in answer.json()["data"]] == [["admin"]]
    assert whole.split("_", 2)[2] not in answer.text  # a secret may have underscores itself
    unknown = await running.client.delete("/admin/keys/none", headers=bearer(whole))
    assert unknown.status_code == 404


async def test_completions_belong_to_the_key_that_asked(
    running: RunningApp, make_key: MakeKey
) -> None:
    _, first = await make_key("chat")
    _, second = await make_key("chat")
    await keyed(running)
    reply = await running.client.post("/v1/chat/completions", json=CHAT, headers=bearer(first))
    url = f"/v1/feedback/{reply.json()['id']}"
    foreign = await running.client.put(url, json={"thumb": "up"}, headers=bearer(second))
    own = await running.client.put(url, json={"thumb": "up"}, headers=bearer(first))
    assert (foreign.status_code, own.status_code) == (404, 200)


async def test_a_key_seen_within_the_hour_works_while_redis_is_away(
    authenticator: Authenticator, store: Store, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, seen = await make_key("chat")
    _, unseen = await make_key("chat")
    await authenticator.refresh()
    caller = await authenticator.identify(bearer(seen))

    async def gone(key: Any) -> None:
        raise StoreUnavailableError("Away.")

    monkeypatch.setattr(store.keys, "verify", gone)
    assert await authenticator.identify(bearer(seen)) == caller
    with pytest.raises(NotReadyError, match="cannot be checked"):
        await authenticator.identify(bearer(unseen))
    now = time.monotonic()
    monkeypatch.setattr("service.runtime.auth.time.monotonic", lambda: now + 3601)
    with pytest.raises(NotReadyError, match="cannot be checked"):
        await authenticator.identify(bearer(seen))


async def test_a_key_seen_to_be_revoked_is_not_remembered(
    authenticator: Authenticator, store: Store, make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, whole = await make_key("chat")
    await authenticator.refresh()
    await authenticator.identify(bearer(whole))
    await store.keys.revoke(key.public_id)
    with pytest.raises(UnauthorizedError):
        await authenticator.identify(bearer(whole))

    async def gone(key: Any) -> None:
        raise StoreUnavailableError("Away.")

    monkeypatch.setattr(store.keys, "verify", gone)
    with pytest.raises(NotReadyError):
        await authenticator.identify(bearer(whole))


@pytest.mark.parametrize(("remembered", "outcome"), [(True, 503), (False, 200), (None, 503)])
async def test_a_start_without_redis_believes_what_was_remembered(
    start_app: StartApp,
    service_settings: ServiceSettings,
    generator: FakeGenerator,
    away: Store,
    remembered: Any,
    outcome: int,
) -> None:
    if remembered is not None:
        LastKnown(service_settings.data_dir).remember(keyed=remembered)
    async with start_app(service_settings, generator, away) as running:
        answer = await ask(running, "tl_0123456789abcdef_" + "x" * 43)
        assert answer.status_code == outcome
        ready = await running.client.get("/readyz")
        assert ready.status_code == (503 if remembered is None else 200)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
async def test_open_mode_is_for_this_machine_only(
    store: Store, service_settings: ServiceSettings, host: str
) -> None:
    settings = service_settings.model_copy(update={"host": host})
    authenticator = _authenticator(store, settings)
    with pytest.raises(ConfigurationError, match="thumbloop keys create"):
        await authenticator.refresh()
    await store.keys.create("k", frozenset({"chat"}), now=1.0)
    await authenticator.refresh()
    with pytest.raises(UnauthorizedError):
        await authenticator.identify({})


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "127.0.0.2:80"])
async def test_open_mode_answers_to_this_machines_names(running: RunningApp, host: str) -> None:
    answer = await running.client.get("/v1/models", headers={"host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", "[", ""])
async def test_open_mode_refuses_a_rebound_name(running: RunningApp, host: str) -> None:
    answer = await running.client.get("/v1/models", headers={"host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1", 200),
        ("https://127.0.0.1", 200),
        ("http://127.0.0.1:3000", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
async def test_open_mode_refuses_pages_of_other_origins(
    running: RunningApp, origin: str, status: int
) -> None:
    answer = await running.client.post(
        "/v1/chat/completions", json=CHAT, headers={"origin": origin}
    )
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


async def test_with_keys_any_host_and_origin_may_call(
    running: RunningApp, make_key: MakeKey
) -> None:
    _, key = await make_key("chat")
    await keyed(running)
    headers = bearer(key) | {"host": "api.example", "origin": "https://app.example"}
    assert (await running.client.get("/v1/models", headers=headers)).status_code == 200


async def test_an_allowed_origin_may_call_and_ask_before(
    start_app: StartApp, service_settings: ServiceSettings, generator: FakeGenerator, store: Store
) -> None:
    origin = "https://app.example"
    settings = service_settings.model_copy(update={"cors_origins": (origin,)})
    async with start_app(settings, generator, store) as running:
        before = await running.client.options(
            "/v1/chat/completions",
            headers={"origin": origin, "access-control-request-method": "POST"},
        )
        answer = await running.client.post(
            "/v1/chat/completions", json=CHAT, headers={"origin": origin}
        )
        other = await running.client.get("/v1/models", headers={"origin": "https://b.example"})
    assert before.status_code == answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert other.status_code == 403
