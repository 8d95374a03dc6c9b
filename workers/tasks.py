"""The Celery tasks: thin, without arguments, and harmless when one runs twice."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from celery import shared_task

from feedback.errors import StoreUnavailableError
from feedback.store import Store, embedded_url
from models.adapters import AdapterStore
from workers.app import DOORBELL_SECONDS, UPDATE_LIMIT_SECONDS
from workers.priority import give_way
from workers.settings import WorkerSettings
from workers.update import run_update
from workers.watch import watch
from workers.workplace import Learner, Workplace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

logger = logging.getLogger(__name__)


@shared_task(name="thumbloop.look")
def look() -> None:
    """Look whether there is work for the learner, and ring its doorbell if so."""
    try:
        if asyncio.run(_look(WorkerSettings())):
            learn.apply_async(expires=DOORBELL_SECONDS)
    except StoreUnavailableError as error:
        logger.warning("%s", error)


@shared_task(name="thumbloop.learn", time_limit=UPDATE_LIMIT_SECONDS)
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
    async with _store(settings) as store:
        decision = await watch(store, settings, now=time.time())
        await store.learning.looked(time.time())
    return decision.action != "rest"


async def _learn(settings: WorkerSettings) -> None:
    async with _store(settings) as store:
        place = Workplace(
            store=store,
            settings=settings,
            adapters=AdapterStore(settings.adapters_dir),
            make_learner=lambda: _load_learner(settings),
        )
        with _cancelled_by_sigterm():
            await run_update(place)


@contextmanager
def _cancelled_by_sigterm() -> Iterator[None]:
    """Let SIGTERM cancel the current task, which then gives its run back.

    Celery's own handler is put back afterwards: by it, a worker's process knows the signal that
    its parent sends after the last task for no mishap.
    """
    before = signal.getsignal(signal.SIGTERM)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    loop.add_signal_handler(signal.SIGTERM, task.cancel if task else loop.stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)


def _load_learner(settings: WorkerSettings) -> Learner:
    from models.learner import Learner as TorchLearner  # noqa: PLC0415 - torch, only when needed

    return TorchLearner(settings)


@asynccontextmanager
async def _store(settings: WorkerSettings) -> AsyncIterator[Store]:
    store = Store.connect(settings.redis_url or embedded_url(settings.data_dir), settings)
    try:
        yield store
    finally:
        await store.close()
