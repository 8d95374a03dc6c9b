from __future__ import annotations

import dataclasses
import json
import struct
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from feedback.errors import UnknownCompletionError
from feedback.store import keys
from feedback.store.completions import Completions
from feedback.types import Person

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from feedback.store import Store
    from feedback.store.client import Client
    from feedback.types import Completion

    MakeCompletion = Callable[..., Completion]
    Voted = Callable[..., Awaitable[list[str]]]

pytestmark = pytest.mark.anyio
ANN = Person("k1", "ann")


async def test_a_completion_comes_back_as_it_was(store: Store, completion: MakeCompletion) -> None:
    await store.completions.record(completion("c1"))
    assert await store.completions.get("c1") == completion("c1")
    assert await store.completions.get_owned("c1", ANN) == completion("c1")


async def test_a_record_from_before_top_k_is_read(
    store: Store, raw_redis: Redis, completion: MakeCompletion
) -> None:
    await store.completions.record(completion("c1"))
    old = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 256, "stop": ["\n"], "seed": 3}
    await raw_redis.execute_command("HSET", keys.completion("c1"), "sampling", json.dumps(old))
    assert await store.completions.get("c1") == completion("c1")


async def test_many_come_in_order_with_gaps(store: Store, completion: MakeCompletion) -> None:
    await store.completions.record(completion("c1"))
    await store.completions.record(completion("c2"))
    found = await store.completions.get_many(["c2", "c9", "c1"])
    assert found == [completion("c2"), None, completion("c1")]
    assert await store.completions.get_many([]) == []


@pytest.mark.parametrize(
    "person", [Person("k1", "bob"), Person("k2", "ann"), Person("k1"), Person("k1:ann")]
)
async def test_someone_elses_looks_like_none_at_all(
    store: Store, completion: MakeCompletion, person: Person
) -> None:
    await store.completions.record(completion("c1"))
    with pytest.raises(UnknownCompletionError) as foreign:
        await store.completions.get_owned("c1", person)
    with pytest.raises(UnknownCompletionError) as missing:
        await store.completions.get_owned("c2", person)
    assert str(foreign.value).replace("c1", "c2") == str(missing.value)
    with pytest.raises(UnknownCompletionError):
        await store.completions.delete("c1", person)
    assert await store.completions.get("c1") is not None


async def test_recording_twice_counts_once(store: Store, completion: MakeCompletion) -> None:
    await store.completions.record(completion("c1"))
    await store.completions.record(completion("c1"))
    assert (await store.versions.get("base")).completions == 1


@pytest.fixture
def lives(store: Store, raw_redis: Redis) -> Callable[[str], Awaitable[float]]:
    """Return a function that tells how many days a key lives."""

    async def days(key: str) -> float:
        return int(await raw_redis.pttl(key)) / 1000 / 86400

    return days


async def test_a_users_ids_live_as_long_as_the_last_vote_can(
    store: Store, completion: MakeCompletion, lives: Callable[[str], Awaitable[float]]
) -> None:
    await store.completions.record(completion("c1"))
    assert await lives(keys.completion("c1")) == pytest.approx(30, abs=0.01)
    assert await lives(keys.user("k1", "ann")) == pytest.approx(30 + 60, abs=0.01)


async def test_a_shorter_setting_forgets_nobodys_older_replies(
    store: Store,
    client: Client,
    raw_redis: Redis,
    completion: MakeCompletion,
    lives: Callable[[str], Awaitable[float]],
) -> None:
    await store.completions.record(completion("old", created_at=1000.0))
    day = timedelta(days=1)
    shorter = Completions(client, day, day)
    await shorter.record(completion("new", created_at=1000.0 + 86400 * 365))
    assert await raw_redis.zrange(keys.user("k1", "ann"), 0, -1) == ["old", "new"]
    assert await lives(keys.user("k1", "ann")) == pytest.approx(90, abs=0.01)


async def test_an_expired_completion_stays_counted(
    store: Store, raw_redis: Redis, completion: MakeCompletion, voted: Voted
) -> None:
    await voted("u")
    await raw_redis.delete(keys.completion("c0"))
    base = await store.versions.get("base")
    assert (base.completions, base.up) == (1, 1)


async def test_a_vote_that_outlived_its_completion_can_be_deleted(
    store: Store, raw_redis: Redis, voted: Voted
) -> None:
    await voted("u")
    await raw_redis.delete(keys.completion("c0"))
    stays = ("owner", "k1", "user", "ann", "made_by", "base")
    await raw_redis.hset(keys.feedback("c0"), items=[*stays])
    with pytest.raises(UnknownCompletionError):
        await store.completions.delete("c0", Person("k1", "bob"))
    await store.completions.delete("c0", ANN)
    assert await raw_redis.exists(keys.feedback("c0"), keys.user("k1", "ann")) == 0
    base = await store.versions.get("base")
    assert (base.completions, base.up) == (0, 0)
    assert set((await store.votes.stats()).values()) == {0}


async def test_deleting_takes_the_vote_along(
    store: Store, raw_redis: Redis, completion: MakeCompletion, voted: Voted
) -> None:
    await voted("ud")
    await store.completions.delete("c0", ANN)
    assert await store.completions.get("c0") is None
    with pytest.raises(UnknownCompletionError):
        await store.votes.get("c0", ANN)
    assert [vote.completion_id for vote in await store.votes.waiting(9)] == ["c1"]
    base = await store.versions.get("base")
    assert (base.completions, base.up, base.down) == (1, 0, 1)
    stats = await store.votes.stats()
    assert (stats["up"], stats["down"], stats["pending"]) == (0, 1, 1)
    assert await raw_redis.zrange(keys.user("k1", "ann"), 0, -1) == ["c1"]


async def test_deleting_after_the_vote_was_withdrawn_counts_nothing_twice(
    store: Store, voted: Voted
) -> None:
    await voted("u")
    await store.votes.withdraw("c0", ANN, now=2500.0)
    await store.completions.delete("c0", ANN)
    assert set((await store.votes.stats()).values()) == {0}


async def test_a_log_prob_keeps_what_float32_tells(
    store: Store, raw_redis: Redis, completion: MakeCompletion
) -> None:
    narrow = struct.unpack("3f", struct.pack("3f", -2 / 3, -1e-7, -17.123456789))
    kept = dataclasses.replace(completion("c1"), response_ids=(1, 2, 3), behaviour_logprobs=narrow)
    await store.completions.record(kept)
    spelled = await raw_redis.hget("tl:completion:c1", "behaviour_logprobs")
    assert spelled == "[-0.666666687,-1.00000001e-07,-17.123457]"
    found = await store.completions.get("c1")
    assert found is not None
    assert struct.pack("3f", *found.behaviour_logprobs) == struct.pack("3f", *narrow)
