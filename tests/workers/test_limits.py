"""No task goes on for ever; Celery's own limits do nothing in the control worker."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from fake_learner import FakeLearner

import workers.tasks
from models.adapters import AdapterStore
from models.types import Progress
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from feedback.store import Store

pytestmark = pytest.mark.anyio


async def test_a_look_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def hang(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(workers.tasks, "watch", hang)
    monkeypatch.setattr(workers.tasks, "LOOK_LIMIT_SECONDS", 0.1)
    monkeypatch.setenv("THUMBLOOP_REDIS_URL", redis_url)
    monkeypatch.setenv("THUMBLOOP_DATA_DIR", str(tmp_path))
    await asyncio.to_thread(workers.tasks.look)
    assert "A look was given up" in caplog.text


async def test_an_update_that_takes_too_long_is_stopped_and_has_failed(
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    redis_url: str,
    vote_on: Callable[..., Awaitable[list[str]]],
    tmp_path: Path,
) -> None:
    await vote_on("ud")

    def without_end(progress: Callable[[Progress], None]) -> None:
        while True:
            time.sleep(0.01)
            progress(Progress("learn", 1, 2))

    settings = WorkerSettings(data_dir=tmp_path, redis_url=redis_url, min_votes=2)
    learner = FakeLearner(AdapterStore(settings.adapters_dir), during=without_end)
    monkeypatch.setattr(workers.tasks, "_load_learner", lambda _: learner)
    monkeypatch.setattr(workers.tasks, "UPDATE_SOFT_LIMIT_SECONDS", 0.5)
    await workers.tasks._learn(settings)
    opened = await store.runs.open()
    assert opened is not None
    assert (opened.state, opened.reason) == ("claimed", "It took longer than 0.5 s.")
    assert not await store.runs.lease_held()
