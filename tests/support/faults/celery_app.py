"""The real Celery app with a learner that computes nothing.

Started as ``celery -A tests.support.faults.celery_app worker``.

A spawned child imports the modules of ``include``, so the learner is replaced there too. What was
learned is noted in the data folder, a line for each call, so that a test can count.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from celery import signals

import workers.tasks
from models.adapters import AdapterStore
from models.types import Progress
from tests.support.workers.fake_learner import FakeLearner
from workers.app import create_app
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

NOTES = "learned.txt"
ANSWERS = "answered.txt"


def make_learner(settings: WorkerSettings) -> FakeLearner:
    """Return a learner that notes its calls, and takes FAULTS_LEARN_SECONDS for each."""
    seconds = float(os.environ.get("FAULTS_LEARN_SECONDS", "0"))

    def during(progress: Callable[[Progress], None]) -> None:
        with (settings.data_dir / NOTES).open("a") as notes:
            notes.write(f"{os.getpid()}\n")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.05)
            progress(Progress("learn", 1, 2))

    return FakeLearner(AdapterStore(settings.adapters_dir), during=during)


workers.tasks._load_learner = make_learner


@signals.task_postrun.connect
def _note_answer(sender: Any, **_: Any) -> None:
    """Note that a doorbell of the learner was answered, whatever came of it."""
    _note(sender.name, "answered")


@signals.task_revoked.connect
def _note_expired(sender: Any, expired: bool, **_: Any) -> None:
    _note(sender.name, "expired" if expired else "revoked")


def _note(task: str, answer: str) -> None:
    if task == "thumbloop.learn":
        with (WorkerSettings().data_dir / ANSWERS).open("a") as notes:
            notes.write(f"{answer}\n")


app: Any = create_app(WorkerSettings())
app.conf.include = ["workers.tasks", "tests.support.faults.celery_app"]
# A test of many doorbells would else wait for as many children to start, one after the other.
app.conf.worker_max_tasks_per_child = int(os.environ.get("FAULTS_TASKS_PER_CHILD", "1"))
