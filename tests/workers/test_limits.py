"""No task goes on for ever; Celery's own limits do nothing in the control worker."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

import workers.tasks
from feedback.store.runs import Runs
from models.adapters import AdapterStore
from models.types import Progress
from tests.support.workers.fake_learner import FakeLearner
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from feedback.store import Store
    from feedback.types import Run

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
    assert "Looking for work took longer" in caplog.text


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


async def test_a_second_sigterm_does_not_cut_short_what_the_first_began(
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    redis_url: str,
    vote_on: Callable[..., Awaitable[list[str]]],
    tmp_path: Path,
) -> None:
    """One comes to the whole group, another from the parent, which passes its own on."""
    await vote_on("ud")

    def until_asked(progress: Callable[[Progress], None]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            time.sleep(0.01)
            progress(Progress("learn", 1, 2))

    release = Runs.release

    async def asked_again(runs: Runs, run: Run, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        await release(runs, run, **options)

    monkeypatch.setattr(Runs, "release", asked_again)
    settings = WorkerSettings(data_dir=tmp_path, redis_url=redis_url, min_votes=2)
    learner = FakeLearner(AdapterStore(settings.adapters_dir), during=until_asked)
    monkeypatch.setattr(workers.tasks, "_load_learner", lambda _: learner)
    update = asyncio.create_task(workers.tasks._learn(settings))
    with pytest.raises(asyncio.CancelledError):
        await update
    assert (await store.runs.get(1)).state == "claimed"
    assert not await store.runs.lease_held()
