from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from service.merging import Merged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


class Source:
    """Yields numbers, one for each ``go``; remembers that it was closed."""

    def __init__(self, count: int, fail_at: int | None = None) -> None:
        self.count = count
        self.fail_at = fail_at
        self.go = asyncio.Semaphore(0)
        self.closed = False

    async def run(self) -> AsyncIterator[int]:
        try:
            for number in range(self.count):
                await self.go.acquire()
                if number == self.fail_at:
                    raise OSError("broken")
                yield number
        finally:
            self.closed = True


async def test_events_come_in_the_order_in_which_they_happen() -> None:
    first, second = Source(2), Source(1)
    merged = Merged([first.run(), second.run()])
    events = aiter(merged)
    second.go.release()
    assert await anext(events) == (1, 0)
    first.go.release()
    assert await anext(events) == (0, 0)
    first.go.release()
    assert await anext(events) == (0, 1)
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    await merged.close()


async def test_closing_cancels_what_still_runs() -> None:
    source = Source(2)
    merged = Merged([source.run()])
    await asyncio.sleep(0)
    await merged.close()
    assert source.closed


async def test_an_error_reaches_the_reader() -> None:
    source = Source(2, fail_at=1)
    merged = Merged([source.run()])
    source.go.release()
    source.go.release()
    with pytest.raises(OSError, match="broken"):
        [event async for event in merged]
    await merged.close()


async def test_begun_raises_an_error_that_comes_first() -> None:
    source = Source(1, fail_at=0)
    merged = Merged([source.run(), Source(1).run()])
    source.go.release()
    with pytest.raises(OSError, match="broken"):
        await merged.begun(5)
    await merged.close()


async def test_begun_waits_only_so_long() -> None:
    merged = Merged([Source(1).run()])
    await merged.begun(0.01)
    await merged.close()
