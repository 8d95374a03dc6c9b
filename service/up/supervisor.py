"""Carries out a plan: starts the parts, waits until all are ready, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from itertools import chain
from typing import TYPE_CHECKING

from rich.text import Text

from service.up.errors import UpError
from service.up.keeper import FIRST_DELAY, ProcessKeeper, die_with_parent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from service.up.parts import Part
    from service.up.plan import StartPlan

DEATHS_AT_START = 3
"""A part that ends this often before all is ready ends the start."""
NEWS_SECONDS = 5.0
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")


class Supervisor:
    """Carries a plan out, and takes it down again."""

    def __init__(
        self, plan: StartPlan, logs: Path, console: Console, first_delay: float = FIRST_DELAY
    ) -> None:
        self._plan = plan
        self._first_delay = first_delay
        self._logs = logs
        self._console = console
        self._redis: list[ProcessKeeper] = []
        self._stages: list[list[ProcessKeeper]] = []
        self._stop = asyncio.Event()
        self._styles: dict[str, str] = {}

    async def run(self) -> None:
        """Start everything, wait for a signal, stop everything.

        Raises:
            UpError: Something would not start; what had started is stopped.
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                await stopping
        finally:
            await self._take_down(starting, stopping)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self.say("up", "killing the parts that are left")
            for keeper in self._keepers():
                keeper.kill()
        self._stop.set()

    async def _start(self) -> None:
        await self._start_redis()
        await self._prepare()
        self._stages = [[self._keep(part) for part in stage] for stage in self._plan.stages]
        await self._until(self._plan.missing, "Starting")
        for line in self._plan.greeting:
            self._console.print(line, style="bold", soft_wrap=True)

    async def _start_redis(self) -> None:
        if self._plan.redis is None:
            if not await self._plan.redis_answers():
                raise UpError("Redis does not answer: start it, or see `thumbloop doctor`.")
            return
        if await self._plan.redis_answers():
            raise UpError("A Redis is still running on this data folder: stop it first.")
        self._redis = [self._keep(self._plan.redis)]

        async def missing() -> str | None:
            return None if await self._plan.redis_answers() else "Redis does not answer yet"

        await self._until(missing, "Starting Redis")

    async def _prepare(self) -> None:
        """Run the preparation in the foreground, its progress on this terminal."""
        if self._plan.preparation is None:
            return
        process = await asyncio.create_subprocess_exec(
            *self._plan.preparation,
            env={**os.environ, **self._plan.environment},
            preexec_fn=die_with_parent(),
        )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if code:
            raise UpError("The base model could not be imported; see above.")

    async def _until(self, missing: Callable[[], Awaitable[str | None]], doing: str) -> None:
        began = reported = time.monotonic()
        with self._console.status(f"{doing} …") as status:
            while (lack := await missing()) is not None:
                self._give_up_on_dying_parts()
                now = time.monotonic()
                status.update(f"{doing} … {now - began:.0f} s: {lack}")
                if not self._console.is_terminal and now - reported > NEWS_SECONDS:
                    reported = now
                    self.say("up", f"{doing}, {now - began:.0f} s: {lack}")
                await asyncio.sleep(0.2)

    def _give_up_on_dying_parts(self) -> None:
        for keeper in self._keepers():
            if keeper.deaths >= DEATHS_AT_START:
                log = self._logs / f"{keeper.part.name}.log"
                raise UpError(f"{keeper.part.name} does not start: see above and {log}.")

    def _keep(self, part: Part) -> ProcessKeeper:
        keeper = ProcessKeeper(part, self._logs, self.say, self._first_delay)
        keeper.start()
        return keeper

    def _keepers(self) -> Iterator[ProcessKeeper]:
        return chain(*self._stages, self._redis)

    async def _take_down(self, *tasks: asyncio.Task[object]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._stop.set()
        self.say("up", "stopping")
        await stop_in_order([*self._stages, self._redis])
        self.say("up", "stopped")

    def say(self, name: str, line: str) -> None:
        """Print one line under a part's name."""
        style = self._styles.setdefault(name, _COLOURS[len(self._styles) % len(_COLOURS)])
        prefix = Text(f"{name:>14} │ ", style=style)
        self._console.print(prefix.append(line, style="default"), soft_wrap=True, highlight=False)


async def stop_in_order(stages: Sequence[Sequence[ProcessKeeper]]) -> None:
    """Stop one stage after the other; the parts of a stage together."""
    for stage in stages:
        await asyncio.gather(*(keeper.stop() for keeper in stage))
