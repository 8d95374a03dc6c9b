"""``thumbloop up`` and its parts one by one: ``api``, ``worker``, ``beat``."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from models.failpoints import check_failpoints
from service.settings import ServiceSettings
from service.up.parts import beat_command, worker_command
from service.up.up import up as run_up
from service.up.up import workers as run_workers

if TYPE_CHECKING:
    from collections.abc import Sequence


class Queues(StrEnum):
    """Which queues a worker serves."""

    learn = "learn"
    control = "control"
    all = "all"


QueueOption = Annotated[
    Queues, typer.Option("--queue", help="Serve one queue, or both in processes of their own.")
]


def up() -> None:
    """Run everything on this machine: Redis, workers, API and pages. Ctrl-C stops it."""
    check_failpoints()
    run_up(ServiceSettings(), Console(highlight=False))


def api() -> None:
    """Run the API and its pages only."""
    # The service imports torch; other commands stay quick without it.
    from service.app.server import serve  # noqa: PLC0415

    serve(ServiceSettings())


def worker(queue: QueueOption = Queues.all) -> None:
    """Run the workers that look for votes and learn from them."""
    check_failpoints()
    if queue is Queues.all:
        run_workers(ServiceSettings(), Console(highlight=False))
    elif queue is Queues.learn:
        become(worker_command("learn"))
    else:
        become(worker_command("control"))


def beat() -> None:
    """Run the clock that starts the workers' tasks; exactly one is needed."""
    become(beat_command())


def become(command: Sequence[str]) -> None:
    """Replace this process by another program, so that signals reach it directly."""
    os.execv(command[0], list(command))  # noqa: S606 - no shell is wanted
