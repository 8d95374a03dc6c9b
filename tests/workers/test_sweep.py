"""The task that keeps the record in bounds."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feedback.retention import SweepReport
from feedback.settings import FeedbackSettings
from feedback.store import Store, keys
from feedback.store.retention import Retention
from workers.app import configuration
from workers.settings import WorkerSettings
from workers.tasks import described, sweep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from redis import Redis

    InStore = Callable[[Callable[[Store], Awaitable[Any]]], Any]


@pytest.fixture
def in_store(
    empty_redis: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> InStore:
    """Point the task at an empty Redis; return a function that does something there."""
    monkeypatch.setenv("THUMBLOOP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("THUMBLOOP_REDIS_URL", redis_url)

    def run(use: Callable[[Store], Awaitable[Any]]) -> Any:
        async def call() -> Any:
            store = Store.connect(redis_url, FeedbackSettings())
            try:
                return await use(store)
            finally:
                await store.close()

        return asyncio.run(call())

    return run


def test_a_sweep_is_done_remembered_and_told(
    empty_redis: Redis, in_store: InStore, caplog: pytest.LogCaptureFixture
) -> None:
    empty_redis.zadd(keys.user("k1", "ann"), {"gone": 1})
    with caplog.at_level(logging.INFO, "workers"):
        sweep()
        sweep()
    assert [record.message.split(": ")[1] for record in caplog.records] == ["1 ids were forgotten."]
    assert in_store(lambda store: store.retention.last()).forgotten_ids == 0


def test_a_rewrite_that_redis_refuses_is_told(
    empty_redis: Redis, in_store: InStore, caplog: pytest.LogCaptureFixture
) -> None:
    def may(rule: str) -> None:
        empty_redis.execute_command("ACL SETUSER", "default", rule)

    empty_redis.hset(keys.RETENTION, "rewrite", "wanted")
    may("-bgrewriteaof")
    try:
        sweep()
    finally:
        may("+bgrewriteaof")
    assert "Allow BGREWRITEAOF" in caplog.text


def test_without_redis_a_sweep_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("THUMBLOOP_REDIS_URL", f"unix://{tmp_path}/nobody.sock")
    sweep()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_what_a_sweep_did_is_one_line() -> None:
    assert described(SweepReport(at=1.0, log_events=5)) == ""
    swept = SweepReport(at=1.0, seconds=1.234, expired_votes=3, trimmed_events=500, finished=False)
    assert described(swept) == (
        "Swept in 1.23 s: 3 votes expired, 500 events were removed from the log, the rest follows "
        "next time."
    )


def test_beat_sweeps_as_often_as_the_setting_says() -> None:
    settings = WorkerSettings(retention_interval=timedelta(seconds=90))
    entry = configuration(settings)["beat_schedule"]["sweep"]
    assert (entry["task"], entry["schedule"]) == (sweep.name, 90.0)
    assert entry["options"] == {"queue": "control", "expires": 90.0}


def test_a_sweep_that_hangs_is_given_up(
    in_store: InStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def hangs(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("workers.tasks.SWEEP_LIMIT_SECONDS", 0)
    monkeypatch.setattr(Retention, "sweep", hangs)
    sweep()
    assert "was stopped" in caplog.text
