"""Loads of versions under way, so that a slow one keeps nobody from swapping to another."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import ModelsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from models.backends import Generator

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version could not be loaded, and when to try again, in ``time.monotonic`` seconds."""

    message: str
    retry_at: float


class VersionLoads:
    """Loads versions, each once however many ask for it.

    Args:
        generator: Where they are loaded.
        ended: Called when a load has ended, well or not.
    """

    def __init__(self, generator: Generator, ended: Callable[[], None]) -> None:
        self._generator = generator
        self._ended = ended
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, Failure] = {}
        self._wanted: frozenset[str] = frozenset()

    def want(self, version: str) -> bool:
        """Say whether a version is loaded; if not, see to it that it will be.

        One that failed is tried again after a while.
        """
        if version in self._generator.loaded():
            return True
        failure = self._failures.get(version)
        if failure is None or time.monotonic() >= failure.retry_at:
            self._begin(version)
        return False

    def problem(self, version: str) -> str | None:
        """Return why a version that is wanted could not be loaded; None while it may come."""
        failure = self._failures.get(version)
        return failure.message if failure else None

    def only(self, wanted: Collection[str]) -> None:
        """Forget the failures of all versions but these, which are kept until they are loaded."""
        self._wanted = frozenset(wanted)
        for version in self._failures.keys() - self._wanted:
            del self._failures[version]

    async def load(self, version: str) -> None:
        """Load a version, or wait for who does.

        Raises:
            ModelsError, OSError: It cannot be loaded.
        """
        if version not in self._generator.loaded():
            await asyncio.shield(self._begin(version))

    async def one_ends(self) -> bool:
        """Wait until one of the loads under way has ended; False if there is none."""
        if not self._tasks:
            return False
        await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        return True

    async def close(self) -> None:
        """Give up the loads under way."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, version: str) -> asyncio.Task[None]:
        task = self._tasks.get(version)
        if task is None:
            task = asyncio.create_task(self._generator.load(version))
            self._tasks[version] = task
            task.add_done_callback(lambda done: self._take(version, done))
        return task

    def _take(self, version: str, done: asyncio.Task[None]) -> None:
        del self._tasks[version]
        error = None if done.cancelled() else done.exception()
        if error is None:
            self._failures.pop(version, None)
        elif version in self._wanted:
            self._remember(version, error)
        self._ended()

    def _remember(self, version: str, error: BaseException) -> None:
        before = self._failures.get(version)
        message = str(error) or type(error).__name__
        if before is None or before.message != message:
            log.error("%s cannot be loaded: %s", version, error, exc_info=_foreseen(error))
        self._failures[version] = Failure(message, time.monotonic() + RETRY_SECONDS)


def _foreseen(error: BaseException) -> BaseException | None:
    """Return an unexpected error, whose traceback is logged; None for the others."""
    return None if isinstance(error, ModelsError | OSError) else error
