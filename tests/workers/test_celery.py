"""The way of a doorbell through real Celery processes: beat, control worker, spawned learner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feedback.settings import FeedbackSettings
from feedback.store import EmbeddedRedis, Store
from service.up.parts import beat_command, worker_command
from workers.app import broker_url, configuration
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from feedback.retention import SweepReport
    from feedback.types import Run
    from tests.support.store.servers import StartRedis

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("redis://host:6380/2", "redis://host:6380/2"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix://u:p@/run/redis.sock?db=3", "redis+socket://u:p@/run/redis.sock?virtual_host=3"),
    ],
)
def test_celery_is_told_of_the_same_redis(url: str, broker: str) -> None:
    assert broker_url(WorkerSettings(redis_url=url)) == broker


def test_the_embedded_redis_is_the_broker_by_default(tmp_path: Path) -> None:
    configured = configuration(WorkerSettings(data_dir=tmp_path))
    assert configured["broker_url"].startswith("redis+socket://")


def test_beat_rings_for_the_judge_on_the_control_queue(tmp_path: Path) -> None:
    settings = WorkerSettings(data_dir=tmp_path, judge_interval=timedelta(seconds=7))
    rung = configuration(settings)["beat_schedule"]["judge"]
    assert (rung["task"], rung["schedule"]) == ("thumbloop.judge", 7.0)
    assert rung["options"] == {"queue": "control", "expires": 7.0}


class Parts:
    """Celery processes on the embedded Redis of a data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.log = data_dir / "log"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "THUMBLOOP_DATA_DIR": str(data_dir),
            "THUMBLOOP_BASE_MODEL": str(data_dir / "no-model"),
            "THUMBLOOP_MIN_VOTES": "2",
            "THUMBLOOP_MAX_ATTEMPTS": "1",
            "THUMBLOOP_RETENTION_INTERVAL": "1",
        }

    def start(self, name: str, command: tuple[str, ...]) -> None:
        with self.log.open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def libraries(self, name: str) -> str:
        """Return what a part has mapped into its memory; Linux only."""
        return Path(f"/proc/{self.processes[name].pid}/maps").read_text()

    def stop(self) -> None:
        try:
            for process in self.processes.values():
                process.terminate()
            for process in self.processes.values():
                assert process.wait(timeout=30) == 0
        finally:  # one that does not end must not outlive its test, nor what it started
            for process in self.processes.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert "SIGTERM" not in self.log.read_text()


@pytest.fixture
def parts(tmp_path: Path, start_redis: StartRedis) -> Iterator[Parts]:
    start_redis(tmp_path)
    (tmp_path / "no-model").mkdir()
    parts = Parts(tmp_path)
    yield parts
    parts.stop()


async def first_setback(store: Store) -> Run:
    async with asyncio.timeout(180):
        while True:
            for run in await store.runs.list(1):
                if run.reason:
                    return run
            await asyncio.sleep(0.1)


async def first_sweep(store: Store) -> SweepReport:
    async with asyncio.timeout(30):
        while True:
            if swept := await store.retention.last():
                return swept
            await asyncio.sleep(0.1)


async def test_votes_reach_a_spawned_learner_and_its_parent_has_no_torch(
    parts: Parts, tmp_path: Path, vote_in: Callable[..., Awaitable[list[str]]]
) -> None:
    store = Store.connect(EmbeddedRedis(tmp_path).url, FeedbackSettings(data_dir=tmp_path))
    await vote_in(store, "ud")
    parts.start("control", worker_command("control"))
    parts.start("learn", worker_command("learn"))
    parts.start("beat", beat_command())
    run = await first_setback(store)
    swept = await first_sweep(store)
    await store.close()
    assert swept.log_events == 2
    assert "cannot be loaded" in run.reason
    assert run.state == "claimed"  # no fault of the votes: they wait for a base that loads
    if sys.platform.startswith("linux"):
        assert "libtorch" not in parts.libraries("learn")
