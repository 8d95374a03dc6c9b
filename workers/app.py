"""The Celery app: two queues, spawned learners, and a beat that looks for work.

The message is a doorbell; the ledger in Redis is the truth. A lost, late or doubled message
therefore costs nothing. Why each value: docs/decisions and the comments here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import warnings
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from celery import Celery, signals
from celery.exceptions import SecurityWarning
from celery.worker import state

from feedback.redis_url import for_celery
from feedback.store import EmbeddedRedis
from models.failpoints import check_failpoints
from workers.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL_QUEUE = "control"
LEARN_QUEUE = "learn"
LEARN_TASK = "thumbloop.learn"
LOOK_SECONDS = 2.0
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
DOORBELL_SECONDS = 10.0
"""A doorbell that no worker takes expires; the next check for work sends another."""
LOOK_LIMIT_SECONDS = 30
"""A check for work that takes longer hangs, and is given up."""
UPDATE_SOFT_LIMIT_SECONDS = 3300
"""An update that takes longer is stopped, and its run given back."""
UPDATE_LIMIT_SECONDS = 3600
"""One that does not even stop is killed; its lease runs out and it is taken over."""
SWEEP_SECONDS = 2.0
"""For each part of a sweep, as other tasks wait behind it; the next sweep does the rest."""
SWEEP_LIMIT_SECONDS = 30
"""A sweep that takes longer hangs, and is given up."""
JUDGE_LIMIT_SECONDS = 30
"""So does a judge."""

BEGINNING_SECONDS = 1.0
"""From when a child has accepted an update to when a request to stop surely reaches it."""
POLL_SECONDS = 0.1

LOG_FORMAT = "%(levelname)s %(message)s"


def create_app(settings: WorkerSettings) -> Celery:
    """Return the Celery app for these settings; connects to nothing."""
    check_failpoints()
    # Celery warns root of pickled messages; only JSON is accepted here.
    warnings.simplefilter("ignore", SecurityWarning)
    app = Celery("thumbloop", include=["workers.tasks"])
    app.conf.update(configuration(settings))
    return app


def configuration(settings: WorkerSettings) -> Mapping[str, Any]:
    """Return Celery's settings."""
    return {
        "broker_url": broker_url(settings),
        "broker_use_ssl": broker_tls(settings),
        **_broker(),
        **_worker(),
        **_beat(settings),
    }


def broker_url(settings: WorkerSettings) -> str:
    """Return the record's Redis as Celery names it; it writes unix sockets in its own way."""
    if settings.redis_url is None:
        return EmbeddedRedis(settings.data_dir).celery_url
    url = urlsplit(settings.redis_url)
    if url.scheme != "unix":
        return for_celery(settings.redis_url)[0]
    database = parse_qs(url.query).get("db", ["0"])[0]
    return f"redis+socket://{url.netloc}{url.path}?virtual_host={database}"


def broker_tls(settings: WorkerSettings) -> dict[str, Any] | None:
    """Return how Celery verifies the record's Redis; None without TLS."""
    return for_celery(settings.redis_url)[1] if settings.redis_url else None


def _broker() -> dict[str, Any]:
    return {
        "broker_transport_options": {
            # A doorbell is gone once it is taken: none is delivered again behind a long update, and
            # taking one writes nothing, so that a full Redis cannot end a worker at that moment.
            "ack_emulation": False,
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            # Twice this and a second is how long a worker may listen to a dead connection.
            "health_check_interval": 10,
            "global_keyprefix": "celery:",
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_default_queue": CONTROL_QUEUE,
        "task_routes": {LEARN_TASK: {"queue": LEARN_QUEUE}},
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_ignore_result": True,
    }


def _worker() -> dict[str, Any]:
    return {
        "worker_pool_start_method": "spawn",  # torch hangs in forked children
        "worker_concurrency": 1,
        "worker_max_tasks_per_child": 1,  # the memory of an update goes back with its process
        # A spawned child imports all before it says that it is up. Celery's 4 s are too few on a
        # busy machine: it then kills and respawns children without end, and nothing is learned.
        "worker_proc_alive_timeout": 60.0,
        "worker_prefetch_multiplier": 1,
        # Nobody asks a worker anything: its connection for that is one less to go dead.
        "worker_enable_remote_control": False,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_soft_shutdown_timeout": 30.0,
        "worker_log_format": LOG_FORMAT,
        "worker_task_log_format": LOG_FORMAT,
        "worker_redirect_stdouts": False,
    }


def _beat(settings: WorkerSettings) -> dict[str, Any]:
    sweep_seconds = settings.retention_interval.total_seconds()
    judge_seconds = settings.judge_interval.total_seconds()
    return {
        "beat_schedule": {
            "look": {
                "task": "thumbloop.look",
                "schedule": LOOK_SECONDS,
                "options": {"queue": CONTROL_QUEUE, "expires": LOOK_SECONDS},
                "last_run_at": LONG_AGO,
            },
            "judge": {
                "task": "thumbloop.judge",
                "schedule": judge_seconds,
                "options": {"queue": CONTROL_QUEUE, "expires": judge_seconds},
                "last_run_at": LONG_AGO,
            },
            "sweep": {
                "task": "thumbloop.sweep",
                "schedule": sweep_seconds,
                "options": {"queue": CONTROL_QUEUE, "expires": sweep_seconds},
                "last_run_at": LONG_AGO,
            },
        },
        # Celery's own scheduler keeps a file, and does not start with a damaged one. In memory
        # there is nothing to damage; a beat that starts sends its tasks at once.
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": 5,
    }


@signals.after_setup_logger.connect
def _let_own_lines_through(**_: Any) -> None:
    """Keep Celery at the chosen level, but print what the workers themselves say."""
    logging.getLogger("workers").setLevel(logging.INFO)


@signals.worker_shutting_down.connect
def _stop_learner(how: str, **_: Any) -> None:
    """Pass a request to stop on to the learner, which else would go on to its end.

    Celery's warm shutdown waits for the task in hand, up to an hour here; whoever asked only its
    parent, as a container's runtime does, would lose patience and kill both.
    """
    if how == "Warm":
        threading.Thread(target=_stop_updates, name="stop-updates", daemon=True).start()


def _stop_updates() -> None:
    """Ask each update to stop, once it has begun, until the process ends.

    A child that is still starting would die of the signal, and so would one with a task in hand
    that does not handle it; Celery ends an idle one.
    """
    asked = set()
    while True:
        for request in list(state.requests.values()):
            begun = request.time_start and time.time() - request.time_start > BEGINNING_SECONDS
            if request.name == LEARN_TASK and begun and request.id not in asked:
                asked.add(request.id)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(request.worker_pid, signal.SIGTERM)
        time.sleep(POLL_SECONDS)


@cache
def _from_environment() -> Celery:
    return create_app(WorkerSettings())


def __getattr__(name: str) -> Celery:
    """Make ``celery -A workers.app`` find an app without building one at every import."""
    if name == "app":
        return _from_environment()
    raise AttributeError(name)
