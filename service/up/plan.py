"""What ``thumbloop up`` starts, and how it sees that it works."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from feedback.errors import StoreUnavailableError
from feedback.store import EmbeddedRedis, open_store
from models.settings import DEFAULT_BASE_MODEL
from service.up.parts import api_part, beat_part, cli_command, redis_part, worker_part

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.settings import ServiceSettings
    from service.up.parts import Part


@dataclass(frozen=True, slots=True)
class StartPlan:
    """What to start and how to see that it works.

    Attributes:
        redis: Starts before and stops after all others; None with a server of the operator's.
        redis_answers: Whether Redis answers.
        preparation: A command to run to its end once Redis answers.
        stages: The other parts. They start together and stop stage by stage.
        missing: Says what is missing until all is ready; None when it is.
        greeting: Lines to print then.
    """

    redis: Part | None
    redis_answers: Callable[[], Awaitable[bool]]
    preparation: tuple[str, ...] | None
    stages: tuple[tuple[Part, ...], ...]
    missing: Callable[[], Awaitable[str | None]]
    greeting: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def make_plan(settings: ServiceSettings) -> StartPlan:
    """Return the real parts for these settings, whose data folder is absolute."""
    environment = _environment(settings)
    root = settings.local_url
    return StartPlan(
        redis=None if settings.redis_url else redis_part(EmbeddedRedis(settings.data_dir)),
        redis_answers=lambda: redis_answers(settings),
        preparation=cli_command("models", "import") if _needs_import(settings) else None,
        stages=(
            (api_part(settings, environment),),
            (beat_part(environment),),
            (worker_part("control", environment), worker_part("learn", environment)),
        ),
        missing=lambda: what_is_missing(root),
        greeting=(
            f"Thumbloop is ready: chat at {root}/ and see it learn at {root}/ops",
            f"API for OpenAI clients: {root}/v1   Logs: {settings.data_dir / 'logs'}",
            "Ctrl-C stops everything.",
        ),
        environment=environment,
    )


def plan_workers(settings: ServiceSettings) -> StartPlan:
    """Return the workers alone, for settings whose data folder is absolute."""

    async def nothing_missing() -> None:
        return None

    environment = _environment(settings)
    return StartPlan(
        redis=None,
        redis_answers=lambda: redis_answers(settings),
        preparation=None,
        stages=((worker_part("control", environment), worker_part("learn", environment)),),
        missing=nothing_missing,
    )


async def redis_answers(settings: ServiceSettings) -> bool:
    """Whether the Redis of the record answers."""
    async with open_store(settings) as store:
        try:
            await store.ping()
        except StoreUnavailableError:
            return False
        return True


async def what_is_missing(root: str) -> str | None:
    """Ask the API whether it is ready; return what it lacks, or None."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            reply = await client.get(f"{root}/readyz")
    except httpx.HTTPError:
        return "the API does not answer yet"
    if reply.is_success:
        return None
    try:
        return ", ".join(reply.json()["missing"])
    except (ValueError, KeyError, TypeError):
        return f"the API answers {reply.status_code}"


def _environment(settings: ServiceSettings) -> dict[str, str]:
    """Return what the parts must agree on, whatever folder they are started from."""
    return {
        "THUMBLOOP_DATA_DIR": str(settings.data_dir),
        "THUMBLOOP_PORT": str(settings.port),
        "PYTHONUNBUFFERED": "1",
    }


def _needs_import(settings: ServiceSettings) -> bool:
    """Whether to import the packaged base first; it is found out without importing torch."""
    packaged = settings.base_model == DEFAULT_BASE_MODEL
    return packaged and not any((settings.data_dir / "base").glob("[!.]*"))
