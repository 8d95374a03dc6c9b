"""The checks of ``thumbloop doctor``: each says what it found and how to mend it."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import httpx

from feedback.errors import FeedbackError, StoreUnavailableError
from feedback.store import open_store
from models.errors import ModelsError
from models.failpoints import VARIABLE, armed
from service.operating.checks.findings import Finding
from service.operating.checks.rollout import check_prompts, check_rollout
from service.operating.checks.updates import LOOKED_BACK, check_updates
from service.runtime.record_health import sweep_problem, unexported, worker_problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from feedback.retention import RecordHealth
    from feedback.store import Store
    from service.settings import ServiceSettings

OLDEST_PYTHON = (3, 11, 4)
_POLICY = "noeviction"


async def examine(settings: ServiceSettings) -> AsyncIterator[Finding]:
    """Yield one finding after the other."""
    yield check_python(sys.version_info[:3])
    yield check_folder(settings)
    yield check_base(settings)
    yield check_failpoints()
    yield check_prompts(settings)
    async for finding in check_record(settings):
        yield finding
    yield await check_api(settings)


def check_python(version: tuple[int, int, int]) -> Finding:
    """Check that Python is new enough."""
    text = ".".join(map(str, version))
    if version >= OLDEST_PYTHON:
        return Finding("python", ok=True, found=text)
    return Finding("python", ok=False, found=text, mend="Use Python 3.11.4 or newer.")


def check_folder(settings: ServiceSettings) -> Finding:
    """Check that the data folder can be written."""
    folder = settings.data_dir.absolute()
    if not folder.exists():
        mend = (
            "The first `thumbloop up` makes the folder. If it is another one, set "
            "THUMBLOOP_DATA_DIR."
        )
        return Finding("data folder", ok=False, found=f"{folder} does not exist", mend=mend)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding("data folder", ok=True, found=str(folder))
    except OSError as error:
        mend = f"Let {_user()} write there, or set THUMBLOOP_DATA_DIR."
        return Finding("data folder", ok=False, found=f"{folder}: {error.strerror}", mend=mend)


def check_base(settings: ServiceSettings) -> Finding:
    """Check that the base model is ready to load."""
    from models.base.loading import is_ready, lacks_end  # noqa: PLC0415 - torch takes seconds

    if is_ready(settings):
        if lacks_end(settings):
            return Finding(
                "base model",
                ok=False,
                found=f"no token ends the replies of {settings.base_model}",
                mend="Give its generation_config.json an `eos_token_id`, or its chat template a "
                "control token behind each turn; else replies go on until max_tokens.",
            )
        return Finding("base model", ok=True, found=settings.base_model)
    found = f"{settings.base_model} is not imported"
    return Finding("base model", ok=False, found=found, mend="Run `thumbloop models import`.")


def check_failpoints() -> Finding:
    """Check that no failpoint is set."""
    try:
        points = ", ".join(armed())
    except ModelsError as error:
        return Finding("failpoints", ok=False, found=str(error), mend=f"Unset {VARIABLE}.")
    if points:
        mend = f"Unset {VARIABLE}, unless this is a test."
        return Finding(
            "failpoints", ok=False, found=f"processes break on purpose at {points}", mend=mend
        )
    return Finding("failpoints", ok=True, found="none is set")


async def check_record(settings: ServiceSettings) -> AsyncIterator[Finding]:
    """Check Redis, and what the record says of the workers and the live version."""
    try:
        async with open_store(settings) as store:
            await store.ping()
            yield await _check_durability(store)
            health, now = await store.retention.health(), time.time()
            yield _check_looks(health, paused=await store.learning.paused(), now=now)
            yield check_updates(await store.runs.list(LOOKED_BACK))
            yield _check_retention(health, settings, now=now)
            async for finding in check_rollout(store, settings):
                yield finding
    except FeedbackError as error:
        mend = (
            "Start that Redis, or correct THUMBLOOP_REDIS_URL."
            if settings.redis_url
            else "Start `thumbloop up`, or set THUMBLOOP_REDIS_URL."
        )
        yield Finding("redis", ok=False, found=str(error), mend=mend)


async def check_api(settings: ServiceSettings) -> Finding:
    """Check that the API answers and is ready."""
    root = settings.local_url
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            reply = await client.get(f"{root}/readyz")
    except httpx.HTTPError as error:
        found = f"nothing answers at {root} ({type(error).__name__})"
        mend = "Start `thumbloop up` or `thumbloop api`, or correct THUMBLOOP_HOST and _PORT."
        return Finding("api", ok=False, found=found, mend=mend)
    if reply.is_success:
        return Finding("api", ok=True, found=f"ready at {root}")
    found = f"not ready: {reply.text[:200]}"
    return Finding("api", ok=False, found=found, mend="Wait a moment; then see the API's log.")


async def _check_durability(store: Store) -> Finding:
    found = await store.server_settings()
    text = ", ".join(f"{name} {value}" for name, value in found.items()) or "Redis does not say"
    mend = []
    try:
        await store.check_durability()
    except StoreUnavailableError as error:
        mend.append(str(error))
    if found.get("maxmemory-policy", _POLICY) != _POLICY:
        mend.append(f"Votes may be thrown away. Set `maxmemory-policy {_POLICY}` in redis.conf.")
    return Finding("redis", ok=not mend, found=text, mend=" ".join(mend))


def _check_looks(health: RecordHealth, *, paused: bool, now: float) -> Finding:
    problem = worker_problem(health, now=now)
    if problem is None and health.last_look is not None:
        found = f"looked for work {max(0.0, now - health.last_look):.0f} s ago"
        if paused:
            found += " (learning is paused)"
        return Finding("workers", ok=True, found=found)
    mend = "Start `thumbloop up`, or `thumbloop worker` and `thumbloop beat`; then see their logs."
    return Finding("workers", ok=False, found=problem or "", mend=mend)


def _check_retention(health: RecordHealth, settings: ServiceSettings, *, now: float) -> Finding:
    swept = health.swept
    events = f"{health.log_events} events in the log"
    if swept is None:
        return Finding("retention", ok=True, found=f"no sweep has run yet; {events}")
    found = (
        f"swept {max(0.0, now - swept.at):.0f} s ago; {events}, of which {unexported(swept)} "
        "are not exported"
    )
    problem = sweep_problem(health, now=now, interval=settings.retention_interval)
    if problem is None:
        return Finding("retention", ok=True, found=found)
    mend = (
        "Allow BGREWRITEAOF to the workers' Redis user, or run it yourself."
        if swept.rewrite == "wanted"
        else "See the control worker's log; `thumbloop beat` starts a sweep."
    )
    return Finding("retention", ok=False, found=f"{problem} ({found})", mend=mend)


def _user() -> str:
    return f"the user with id {os.getuid()}"
