"""A whole Thumbloop of real processes on one data folder, without a model."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from feedback.settings import FeedbackSettings
from feedback.store import Store
from service.up.parts import beat_command, worker_command
from tests.support.faults.celery_app import ANSWERS, NOTES
from tests.support.faults.processes import START_SECONDS, Child, RedisChild, free_port, happens
from workers.app import create_app
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery

    from service.up.parts import Queue

ROOT = Path(__file__).parents[3]
API = "tests.support.faults.api_process"
CELERY_APP = "tests.support.faults.celery_app"


class Site:
    """Starts the parts, and ends whatever is left of them.

    Attributes:
        environment: What the parts that are started next are told; starts with quick settings.
    """

    def __init__(self, data_dir: Path, redis_port: int | None = None) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.redis = RedisChild(data_dir, redis_port)
        self.children: list[Child] = [self.redis]
        (data_dir / "no-model").mkdir(exist_ok=True)
        self.environment = {
            "PYTHONPATH": str(ROOT),
            "THUMBLOOP_DATA_DIR": str(data_dir),
            "THUMBLOOP_BASE_MODEL": str(data_dir / "no-model"),
            "THUMBLOOP_PORT": str(self.port),
            "THUMBLOOP_MIN_VOTES": "2",
            "THUMBLOOP_RETRY_DELAY": "0",
        }

    async def start_api(self, name: str = "api", **settings: str) -> Child:
        """Start the API, or one more on a ``port`` of its own, and wait until it is ready."""
        api = self.start(name, [sys.executable, "-m", API], **settings)
        url = f"http://127.0.0.1:{settings.get('port', self.port)}"

        async def ready() -> bool:
            assert api.alive(), api.said()
            return await answers(f"{url}/readyz")

        await happens(ready, START_SECONDS, "A ready API")
        return api

    def start_workers(self) -> Child:
        """Start the workers of both queues, and beat; return the learn queue's."""
        self.start_worker("control")
        self.start_beat()
        return self.start_worker("learn")

    def start_worker(self, queue: Queue, name: str = "", **settings: str) -> Child:
        """Start a worker with the command line that ``thumbloop worker`` runs."""
        name = name or queue
        command = with_fake_learner(worker_command(queue))
        unique = [part.replace(f"{queue}@", f"{name}@") for part in command]
        return self.start(name, unique, **settings)

    def start_beat(self, name: str = "beat") -> Child:
        return self.start(name, with_fake_learner(beat_command()))

    def start(self, name: str, command: Iterable[str], **settings: str) -> Child:
        """Start any process with the site's environment and further ``THUMBLOOP_`` settings.

        A name in capitals is the whole name of a variable.
        """
        ours = {k if k.isupper() else f"THUMBLOOP_{k.upper()}": v for k, v in settings.items()}
        environment = {**self.environment, **ours}
        log = self.data_dir / f"{name}.log"
        child = Child(name, [*command], log, environment, cwd=self.data_dir)
        child.spawn()
        self.children.append(child)
        return child

    def broker(self) -> Celery:
        """Return an app that can ring this site's doorbells; it runs nothing."""
        return create_app(WorkerSettings(data_dir=self.data_dir))

    def store(self) -> Store:
        """Return a store on this site's Redis, past any proxy; the caller closes it."""
        settings = FeedbackSettings(data_dir=self.data_dir, retry_delay=timedelta(0))
        return Store.connect(self.redis.url, settings)

    async def answers(self, path: str) -> bool:
        """Whether the API answers a GET with success."""
        return await answers(self.url + path)

    def learned(self) -> list[int]:
        """Return the pid of the learner of each call so far, in order."""
        notes = self.data_dir / NOTES
        return [int(line) for line in notes.read_text().split()] if notes.exists() else []

    def answered(self) -> list[str]:
        """Return what became of each of the learner's doorbells so far: answered or expired."""
        notes = self.data_dir / ANSWERS
        return notes.read_text().split() if notes.exists() else []

    def destroy(self) -> None:
        """End whatever is left, at once."""
        for child in reversed(self.children):
            child.kill()


async def answers(url: str) -> bool:
    """Whether a GET is answered with success."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            return (await client.get(url)).is_success
    except httpx.TransportError:
        return False


def with_fake_learner(command: Iterable[str]) -> list[str]:
    """Return a command line of Celery for the app with the fake learner."""
    return [CELERY_APP if word == "workers.app" else word for word in command]
