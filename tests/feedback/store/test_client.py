"""What happens when Redis is away, refuses, or is not waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ResponseError

from feedback.errors import StoreUnavailableError
from feedback.settings import FeedbackSettings
from feedback.store import Store, keys
from feedback.store.client import source
from feedback.types import Person, Vote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from feedback.store.client import Client
    from feedback.types import Completion
    from tests.support.store.servers import StartRedis

    MakeCompletion = Callable[..., Completion]

pytestmark = pytest.mark.anyio
ANN = Person("k1", "ann")
UP = Vote(thumb="up")


async def test_a_redis_that_is_away_is_said_so(tmp_path: Path) -> None:
    store = Store.connect(f"unix://{tmp_path}/none.sock", FeedbackSettings())
    for call in (store.ping(), store.rollout.get(), store.votes.put("c", ANN, UP, 1.0, now=0.0)):
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            await call
    await store.close()


async def test_a_redis_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr("feedback.store.client._TIMEOUT", 0.1)
    server = await asyncio.start_unix_server(say_nothing, tmp_path / "mute.sock")
    store = Store.connect(f"unix://{tmp_path}/mute.sock", FeedbackSettings())
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await store.ping()
    await store.close()
    server.close()
    await server.wait_closed()


async def test_a_redis_that_refuses_is_said_so_and_nothing_is_half_written(
    start_redis: StartRedis, tmp_path: Path, completion: MakeCompletion
) -> None:
    server = start_redis(tmp_path)
    store = Store.connect(server.url, FeedbackSettings())
    await store.completions.record(completion("c1"))
    raw_redis = server.client()
    await raw_redis.config_set("maxmemory", "1")
    with pytest.raises(StoreUnavailableError, match="refused"):
        await store.votes.put("c1", ANN, UP, 1.0, now=2000.0)
    await raw_redis.config_set("maxmemory", "0")
    assert await raw_redis.exists(keys.feedback("c1"), keys.READY) == 0
    assert (await store.versions.get("base")).up == 0
    await raw_redis.replicaof("127.0.0.1", 1)
    await raw_redis.aclose()
    with pytest.raises(StoreUnavailableError, match="refused"):
        await store.votes.put("c1", ANN, UP, 1.0, now=2000.0)
    await store.close()


async def test_a_programming_error_is_not_taken_for_an_outage(client: Client) -> None:
    with pytest.raises(ResponseError):
        await client.command("NOSUCHCOMMAND")


async def test_what_was_promised_survives_a_kill_and_the_store_reconnects(
    start_redis: StartRedis, tmp_path: Path, completion: MakeCompletion
) -> None:
    server = start_redis(tmp_path)
    store = Store.connect(server.url, FeedbackSettings())
    for i in range(20):
        await store.completions.record(completion(f"c{i}"))
        await store.votes.put(f"c{i}", ANN, UP, 1.0, now=2000.0 + i)
    server.kill()
    with pytest.raises(StoreUnavailableError):
        await store.ping()
    start_redis(tmp_path)
    assert await store.votes.count_waiting() == 20
    assert (await store.votes.get("c19", ANN)).score == 1.0
    await store.close()


async def test_scripts_are_sent_again_to_a_server_that_forgot_them(
    store: Store, client: Client, completion: MakeCompletion
) -> None:
    await store.completions.record(completion("c1"))
    await client.command("SCRIPT", "FLUSH")
    await store.completions.record(completion("c2"))
    assert await store.completions.get("c2") is not None


async def test_cancelled_calls_never_mix_up_answers(client: Client) -> None:
    for i in range(300):
        await client.command("SET", f"k{i % 10}", f"v{i % 10}")
        call = asyncio.ensure_future(client.command("GET", f"k{i % 10}"))
        for _ in range(i % 7):
            await asyncio.sleep(0)
        call.cancel()
        other = (i + 3) % 10
        found = await client.command("GET", f"k{other}")
        assert found in {f"v{other}", None}
    assert await client.command("GET", "k0") == "v0"


@pytest.mark.parametrize("known", [True, False], ids=["known", "sent again in full"])
async def test_a_cancelled_write_ends_whole(
    store: Store, client: Client, redis_url: str, completion: MakeCompletion, known: bool
) -> None:
    await store.completions.record(completion("c1"))
    await client.command("SCRIPT FLUSH")
    if known:
        await client.command("SCRIPT LOAD", source("vote_put"))
    writer = Store.connect(redis_url, FeedbackSettings())
    call = asyncio.ensure_future(writer.votes.put("c1", ANN, UP, 1.0, now=2000.0))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await writer.close()  # once what it sent has ended
    assert (await store.votes.get("c1", ANN)).revision == 1


async def test_more_callers_than_connections_wait_their_turn(client: Client) -> None:
    assert set(await asyncio.gather(*(client.command("ECHO", "x") for _ in range(300)))) == {"x"}
