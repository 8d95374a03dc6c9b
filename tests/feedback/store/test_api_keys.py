from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from feedback.store import keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from feedback.store import Store

pytestmark = pytest.mark.anyio
CHAT = frozenset({"chat"})


async def test_the_whole_key_is_verified_and_only_a_hash_is_kept(
    store: Store, raw_redis: Redis
) -> None:
    key, whole = await store.keys.create("laptop", frozenset({"chat", "admin"}), now=5.0)
    assert await store.keys.verify(whole) == key
    assert (key.name, key.scopes, key.created_at) == ("laptop", frozenset({"chat", "admin"}), 5.0)
    tl, public_id, secret = whole.split("_", 2)
    assert (tl, public_id) == ("tl", key.public_id)
    stored = await raw_redis.hgetall(keys.api_key(public_id))
    assert secret not in str(stored)
    assert stored["hash"] == hashlib.sha256(secret.encode()).hexdigest()


async def test_anything_else_is_refused(store: Store) -> None:
    key, whole = await store.keys.create("laptop", CHAT, now=5.0)
    other = (await store.keys.create("phone", CHAT, now=6.0))[1]
    swapped = f"tl_{key.public_id}_{other.split('_', 2)[2]}"
    unknown = f"tl_{'0' * 16}_{'A' * 43}"
    changed = whole[:-1] + ("A" if whole[-1] != "A" else "B")
    for wrong in ("", "tl", "sk-123", whole + "x", whole.upper(), swapped, unknown, changed):
        assert await store.keys.verify(wrong) is None


async def test_a_revoked_key_is_refused_and_stays_listed(store: Store) -> None:
    key, whole = await store.keys.create("laptop", CHAT, now=5.0)
    assert await store.keys.revoke(key.public_id)
    assert await store.keys.verify(whole) is None
    assert [(each.public_id, each.revoked) for each in await store.keys.list()] == [
        (key.public_id, True)
    ]
    assert not await store.keys.revoke("0" * 16)


async def test_revoking_the_last_key_does_not_open_the_server(store: Store) -> None:
    assert not await store.keys.any()
    key, _ = await store.keys.create("laptop", CHAT, now=5.0)
    await store.keys.revoke(key.public_id)
    assert await store.keys.any()


async def test_keys_are_listed_oldest_first(store: Store) -> None:
    for i, name in enumerate(("a", "b", "c")):
        await store.keys.create(name, CHAT, now=5.0 - i)
    assert [key.name for key in await store.keys.list()] == ["c", "b", "a"]
