"""The parts of Thumbloop: the processes that it consists of, as command lines."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from feedback.store import EmbeddedRedis
    from service.settings import ServiceSettings

Queue = Literal["learn", "control"]

_CELERY = (sys.executable, "-m", "celery", "--quiet", "-A", "workers.app")
# Workers send each other nothing: what they must know of each other is in the record.
_ALONE = ("--without-gossip", "--without-mingle", "--without-heartbeat")


@dataclass(frozen=True, slots=True)
class Part:
    """A process to keep alive.

    Attributes:
        name: Also names its log file.
        grace: Seconds between the request to stop and the kill.
        quiet: Its lines go to its log file only; the last ones are shown when it dies.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    grace: float = 10.0
    quiet: bool = False


def redis_part(embedded: EmbeddedRedis) -> Part:
    """Return the embedded Redis."""
    return Part("redis", tuple(embedded.command()), quiet=True)


def api_part(settings: ServiceSettings, environment: Mapping[str, str]) -> Part:
    """Return the API; it may take as long to stop as its replies in flight may take."""
    drain = (settings.drain_delay + settings.drain_timeout).total_seconds()
    return Part("api", cli_command("api"), environment, grace=drain + 5)


def worker_part(queue: Queue, environment: Mapping[str, str]) -> Part:
    """Return the worker of one queue; a run that it leaves unfinished is taken up again."""
    return Part(f"worker-{queue}", worker_command(queue), environment, grace=20)


def beat_part(environment: Mapping[str, str]) -> Part:
    """Return the clock that sends the control worker its tasks."""
    return Part("beat", beat_command(), environment)


def cli_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line of ``thumbloop`` in this Python environment."""
    return (sys.executable, "-m", "service.cli", *arguments)


def worker_command(queue: Queue) -> tuple[str, ...]:
    """Return the command line of a Celery worker for one queue.

    The control queue has only small tasks, so its worker runs them itself, one after the other;
    the learn queue's worker starts a fresh process for each update.
    """
    pool = ("--pool", "solo") if queue == "control" else ("--pool", "prefork")
    name = ("--hostname", f"{queue}@%h")
    return (*_CELERY, "worker", "-Q", queue, *pool, *name, *_ALONE, "--loglevel", "WARNING")


def beat_command() -> tuple[str, ...]:
    """Return the command line of Celery's beat."""
    return (*_CELERY, "beat", "--loglevel", "WARNING")
