"""Numbers 19 and 20: swaps and rollbacks under load, on three replicas with the real engine.

The model is tiny and random. ``bench.replicas`` does the same at length with the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from bench.replicas import change, own_replies, prepare, summarise
from bench.support.adapters import publish_adapters
from bench.support.fleet import Fleet
from bench.support.traffic import Traffic, chat_on
from tests.support.models.tiny_model import make_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from models.adapters import Manifest

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.timeout(600)]

REPLICAS = 3
STREAMS = 50
TOKENS = 24
ALL_SECONDS = 15.0
"""Within which all replicas have a change, on a machine that others use too."""

SETTINGS = {
    "dtype": "float32",
    "lora_rank": "2",
    "lora_alpha": "4",
    "context_length": "128",
    "engine_threads": "1",
    "max_rows": "20",
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Return three replicas, ready; the tests of this module share them."""
    data_dir = tmp_path_factory.mktemp("fleet")
    make_model(data_dir / "model")
    shared = Path(__file__).parents[2] / "var" / "native"
    shared.mkdir(exist_ok=True, parents=True)
    (data_dir / "native").symlink_to(shared)
    settings = SETTINGS | {"base_model": str(data_dir / "model")}
    with Fleet(data_dir, REPLICAS, **settings).running() as running:
        yield running


@pytest.fixture(scope="module")
def manifests(fleet: Fleet) -> list[Manifest]:
    options = {"lora_rank": 2, "lora_alpha": 4, "base_model": str(fleet.data_dir / "model")}
    return publish_adapters(fleet.data_dir, 3, noise=0.5, **options)


@pytest.fixture(scope="module")
def versions(fleet: Fleet, manifests: list[Manifest]) -> list[str]:
    asyncio.run(prepare(fleet, manifests, doorbell=True))
    return [manifest.version for manifest in manifests]


@pytest.fixture
async def https(fleet: Fleet) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Return a client of each replica."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) for url in fleet.urls
        ]
        yield [await stack.enter_async_context(client) for client in clients]


@contextlib.asynccontextmanager
async def under_load(https: list[httpx.AsyncClient]) -> AsyncIterator[Traffic]:
    """Chat in 50 streams over all replicas for as long as the block lasts."""
    traffic, stop = Traffic(), asyncio.Event()
    streams = [
        asyncio.create_task(chat_on(https[i % len(https)], traffic, stop, TOKENS, i))
        for i in range(STREAMS)
    ]
    try:
        async with traffic.news:
            await traffic.news.wait_for(lambda: traffic.replies)
        yield traffic
    finally:
        stop.set()
        await asyncio.gather(*streams)


async def test_swaps_and_rollbacks_under_50_streams_fail_and_mix_nothing(
    https: list[httpx.AsyncClient], versions: list[str]
) -> None:
    async with under_load(https) as traffic:
        changes = [await change(https, number, versions) for number in range(8)]
    own = await own_replies(https, versions, TOKENS)
    figures = summarise(traffic, changes, own)
    print(figures)
    # Else a wrong version's reply could not be told.
    assert figures["distinct_own_replies"] == figures["own_replies"]
    assert figures["replies_across_changes"] >= STREAMS
    assert figures["versions_that_spoke"] >= 2
    assert figures["failed_replies"] == 0, figures["first_errors"]
    assert figures["mixed_replies"] == 0, figures["first_unlike"]
    assert figures["failed_changes"] == 0
    assert figures["late_replicas"] == 0
    assert figures["seconds_to_all"]["max"] < ALL_SECONDS


async def test_a_rollback_under_load_reaches_all_replicas_without_a_failure(
    https: list[httpx.AsyncClient], versions: list[str]
) -> None:
    bad = versions[0]
    activated = await https[0].post(
        "/admin/rollout/activate", json={"version": bad, "wait": ALL_SECONDS}
    )
    assert activated.json()["settled"]["all"], activated.text
    async with under_load(https) as traffic:
        began = time.monotonic()
        back = await https[1].post("/admin/rollout/rollback", json={"wait": ALL_SECONDS})
        seconds = time.monotonic() - began
        assert back.status_code == 200, back.text
        found = back.json()
        assert (found["settled"]["all"], found["settled"]["replicas"]) == (True, REPLICAS)
        assert found["live"] != bad
        after = time.monotonic()
        seen = len(traffic.replies)
        async with traffic.news:
            await traffic.news.wait_for(lambda: len(traffic.replies) >= seen + STREAMS)
    late = [reply for reply in traffic.replies if reply.asked > after and reply.label == bad]
    print(f"rolled back everywhere in {seconds:.2f} s; {len(traffic.replies)} replies")
    assert traffic.errors == []
    assert late == []
    assert any(reply.label == bad for reply in traffic.replies)
