"""Keeps a run's lease alive while it is worked on, and stops the work once the run is lost."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, TypeVar

from feedback.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class StoppedError(Exception):
    """Raised inside the learning thread: nobody wants its result any more."""


class StopFlag:
    """Stops a thread, which cannot be cancelled, at its next sign of progress."""

    def __init__(self) -> None:
        self._set = threading.Event()

    def set(self) -> None:
        """Ask for the stop."""
        self._set.set()

    def check(self) -> None:
        """Give up if asked to.

        Raises:
            StoppedError: The stop was asked for.
        """
        if self._set.is_set():
            raise StoppedError


async def under_lease(
    work: Awaitable[Result],
    *,
    renew: Callable[[], Awaitable[None]],
    lease: timedelta,
    stop: StopFlag,
) -> Result:
    """Return what ``work`` returns; meanwhile call ``renew`` three times a lease.

    However this ends, ``stop`` is set where ``work`` did not finish.

    Raises:
        FencedError: The run was taken over meanwhile; the work was cancelled.
    """
    working = asyncio.ensure_future(work)
    renewing = asyncio.create_task(_renew_forever(renew, lease.total_seconds() / 3))
    try:
        await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await renewing
        return await working
    finally:
        if not working.done():
            stop.set()
        for task in (working, renewing):
            task.cancel()
        await asyncio.gather(working, renewing, return_exceptions=True)


async def _renew_forever(renew: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await renew()
        except StoreUnavailableError as error:
            # The fence decides once Redis is back; the work so far may still count.
            logger.warning("The lease could not be renewed: %s", error)
