from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from service.chat.merging import Merged

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


async def test_a_failure_from_outside_comes_after_what_came_before_and_ends_all() -> None:
    source, silent = Source(3), Source(1)
    merged = Merged([source.run(), silent.run()])
    source.go.release()
    events = aiter(merged)
    assert await anext(events) == (0, 0)
    source.go.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert merged.fail(TimeoutError("too late"))
    assert await anext(events) == (0, 1)
    with pytest.raises(TimeoutError, match="too late"):
        await anext(events)
    await merged.close()
    assert source.closed
    assert silent.closed


async def test_a_failure_before_the_first_event_is_raised_to_who_waits_for_it() -> None:
    merged = Merged([Source(1).run()])
    asyncio.get_running_loop().call_later(0.01, merged.fail, TimeoutError("too late"))
    assert not merged.has_begun
    with pytest.raises(TimeoutError, match="too late"):
        await merged.begun(5)
    await merged.close()


async def test_what_has_ended_cannot_fail_any_more() -> None:
    source = Source(1)
    merged = Merged([source.run()])
    source.go.release()
    await asyncio.sleep(0.01)
    assert not merged.fail(TimeoutError("too late"))
    assert [event async for event in merged] == [(0, 0)]
