"""Opens the record for a command, or says in one line why it cannot."""

from __future__ import annotations

import asyncio
import getpass
from typing import TYPE_CHECKING, TypeVar

from feedback.errors import StoreUnavailableError
from feedback.settings import FeedbackSettings
from feedback.store import open_store
from service.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from feedback.store import Store

Result = TypeVar("Result")


def with_store(use: Callable[[Store], Awaitable[Result]]) -> Result:
    """Open the record, and return what ``use`` returns.

    Raises:
        CommandError: Redis does not answer.
    """
    return asyncio.run(_with_store(use, FeedbackSettings()))


def operator() -> str:
    """Return who gives this command, for the audit trail."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):
        return "command line"


def no_redis(settings: FeedbackSettings, error: StoreUnavailableError) -> str:
    """Return what to do when Redis does not answer."""
    if settings.redis_url:
        return f"The Redis at THUMBLOOP_REDIS_URL does not answer: {error}"
    return (
        f"Thumbloop is not running on the data folder {settings.data_dir}. Start `thumbloop up`, "
        "or set THUMBLOOP_DATA_DIR or THUMBLOOP_REDIS_URL to where Thumbloop runs."
    )


async def _with_store(
    use: Callable[[Store], Awaitable[Result]], settings: FeedbackSettings
) -> Result:
    async with open_store(settings) as store:
        try:
            await store.ping()
        except StoreUnavailableError as error:
            raise CommandError(no_redis(settings, error)) from error
        return await use(store)
