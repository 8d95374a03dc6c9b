"""Several replies at once, as one sequence of events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

T = TypeVar("T")


class Merged(Generic[T]):
    """Runs all sources from the moment it is made, and yields what they give as it comes.

    Closing it cancels the sources that still run. The first error of any source ends all.
    """

    def __init__(self, sources: Sequence[AsyncIterator[T]]) -> None:
        self._events: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue()
        self._left = len(sources)
        self._refused: Exception | None = None
        self._begun = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._pump(index, source)) for index, source in enumerate(sources)
        ]

    async def begun(self, seconds: float) -> None:
        """Wait for the first event, at most so long; raise the error if it is one."""
        waiting = asyncio.create_task(self._begun.wait())
        try:
            await asyncio.wait({waiting}, timeout=seconds)
        finally:
            waiting.cancel()
        if self._refused is not None:
            raise self._refused

    async def __aiter__(self) -> AsyncIterator[tuple[int, T]]:
        while self._left:
            event = await self._events.get()
            if event is None:
                self._left -= 1
            elif isinstance(event, Exception):
                raise event
            else:
                yield event

    @property
    def has_begun(self) -> bool:
        """Whether anything has come yet."""
        return self._begun.is_set()

    def fail(self, error: Exception) -> bool:
        """End all with an error and cancel what still runs; False if nothing does any more."""
        if all(task.done() for task in self._tasks):
            return False
        self._put_error(error)
        self._cancel()
        return True

    async def close(self) -> None:
        """Cancel what still runs, and wait until it has stopped."""
        self._cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump(self, index: int, source: AsyncIterator[T]) -> None:
        try:
            async for item in source:
                self._put((index, item))
            self._put(None)
        except Exception as error:  # handed to whoever reads the events
            self._put_error(error)
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _put_error(self, error: Exception) -> None:
        if not self.has_begun:
            self._refused = error
        self._put(error)

    def _put(self, event: tuple[int, T] | Exception | None) -> None:
        self._events.put_nowait(event)
        self._begun.set()
