"""The Celery tasks: thin, without arguments, and harmless when one runs twice."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery import shared_task

from feedback.errors import StoreUnavailableError
from feedback.store import open_store
from models.adapters import AdapterStore
from workers.app import (
    DOORBELL_SECONDS,
    JUDGE_LIMIT_SECONDS,
    LEARN_TASK,
    LOOK_LIMIT_SECONDS,
    SWEEP_LIMIT_SECONDS,
    SWEEP_SECONDS,
    UPDATE_LIMIT_SECONDS,
    UPDATE_SOFT_LIMIT_SECONDS,
)
from workers.judge import run_judge
from workers.observation import watch
from workers.priority import give_way
from workers.resources import UpdateLearner, UpdateResources
from workers.settings import WorkerSettings
from workers.update import run_update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from feedback.retention import SweepReport

logger = logging.getLogger(__name__)


@shared_task(name="thumbloop.look")
def look() -> None:
    """Look whether there is work for the learner, and start it if so."""
    try:
        if asyncio.run(_look(WorkerSettings())):
            learn.apply_async(expires=DOORBELL_SECONDS)
    except StoreUnavailableError as error:
        logger.warning("%s", error)
    except TimeoutError:
        logger.warning(
            "Looking for work took longer than %d s and was stopped; the next attempt comes soon.",
            LOOK_LIMIT_SECONDS,
        )


@shared_task(name="thumbloop.sweep")
def sweep() -> None:
    """Sweep out of the record what has expired."""
    try:
        swept = asyncio.run(_sweep(WorkerSettings()))
    except StoreUnavailableError as error:
        logger.warning("%s", error)
        return
    except TimeoutError:
        logger.warning(
            "A sweep took longer than %d s and was stopped; the next one continues.",
            SWEEP_LIMIT_SECONDS,
        )
        return
    if swept.rewrite == "wanted":
        logger.warning(
            "Redis has not begun to rewrite its append-only file after the deletion of a user. "
            "Allow BGREWRITEAOF to the workers' Redis user, or run it yourself."
        )
    if summary := described(swept):
        logger.info("%s", summary)


@shared_task(name="thumbloop.judge")
def judge() -> None:
    """Compare the newer versions with the confirmed one, and act on what is found."""
    try:
        asyncio.run(_judge(WorkerSettings()))
    except StoreUnavailableError as error:
        logger.warning("%s", error)
    except TimeoutError:
        logger.warning(
            "The judge took longer than %d s and was stopped; its next run comes soon.",
            JUDGE_LIMIT_SECONDS,
        )


@shared_task(name=LEARN_TASK, time_limit=UPDATE_LIMIT_SECONDS)
def learn() -> None:
    """Do one update, if the record still calls for one."""
    settings = WorkerSettings()
    give_way(settings.learner_nice)
    try:
        asyncio.run(_learn(settings))
    except StoreUnavailableError as error:
        logger.warning("%s", error)
    except asyncio.CancelledError:
        logger.info("The learner was asked to stop.")


async def _look(settings: WorkerSettings) -> bool:
    async with open_store(settings) as store, asyncio.timeout(LOOK_LIMIT_SECONDS):
        decision = await watch(store, settings, now=time.time())
        await store.learning.looked(time.time())
    return decision.action != "rest"


async def _judge(settings: WorkerSettings) -> None:
    async with open_store(settings) as store, asyncio.timeout(JUDGE_LIMIT_SECONDS):
        await run_judge(store, settings, now=time.time())


async def _sweep(settings: WorkerSettings) -> SweepReport:
    async with open_store(settings) as store:
        # Celery's own limit does nothing in the control worker, which runs its tasks itself.
        async with asyncio.timeout(SWEEP_LIMIT_SECONDS):
            return await store.retention.sweep(now=time.time(), seconds=SWEEP_SECONDS)


def described(swept: SweepReport) -> str:
    """Say what a sweep did; nothing when it found nothing to do."""
    did = {
        "votes expired": swept.expired_votes,
        "rolled back runs gave back their votes": swept.returned_runs,
        "events were removed from the log": swept.trimmed_events,
        "entries were removed from the audit": swept.trimmed_audit,
        "ids were forgotten": swept.forgotten_ids,
    }
    parts = [f"{count} {what}" for what, count in did.items() if count]
    if parts and not swept.finished:
        parts.append("the rest follows next time")
    return f"Swept in {swept.seconds:.2f} s: {', '.join(parts)}." if parts else ""


async def _learn(settings: WorkerSettings) -> None:
    with _cancelled_by_sigterm():
        async with open_store(settings) as store:
            resources = UpdateResources(
                store=store,
                settings=settings,
                adapters=AdapterStore.open(settings),
                make_learner=lambda: _load_learner(settings),
                # Not Celery's soft limit: its exception would strike anywhere in the loop.
                seconds=UPDATE_SOFT_LIMIT_SECONDS,
            )
            await run_update(resources)


@contextmanager
def _cancelled_by_sigterm() -> Iterator[None]:
    """Let SIGTERM cancel the current task, which then gives its run back.

    A second one, as a worker passes on what its whole group was sent, does not cut that short.
    Afterwards it is ignored: the process, which does one task, ends by itself, and one that died
    between its work and its report of it would count as lost.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def cancel_once() -> None:
        if task is not None and not task.cancelling():
            task.cancel()

    loop.add_signal_handler(signal.SIGTERM, cancel_once)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _load_learner(settings: WorkerSettings) -> UpdateLearner:
    from models.learning.learner import Learner  # noqa: PLC0415 - torch, only when needed

    return Learner(settings)
