"""Keeps one part alive as a process: starts it, restarts it with back-off, and stops it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from service.up.parts import Part

Say = Callable[[str, str], None]
"""Takes a part's name and one line about it, or from it."""

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
STEADY_SECONDS = 60.0
"""A part that ran this long starts again without the delay left from earlier deaths."""
LARGEST_LOG = 20_000_000
"""Bytes of a log at which the next start of its part begins a new one."""

_TAIL_LINES = 8
_READ_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


class ProcessKeeper:
    """Keeps one part alive until ``stop`` is called.

    Every part is a session of its own: Ctrl-C reaches the supervisor only, and a signal to the
    part's group reaches all that the part started.
    """

    def __init__(self, part: Part, logs: Path, say: Say, first_delay: float = FIRST_DELAY) -> None:
        self.part = part
        self.deaths = 0
        self._log = logs / f"{part.name}.log"
        self._say = say
        self._first_delay = first_delay
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The running process, if there is one."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def start(self) -> None:
        """Begin to keep the part alive."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ask the part's group to end; kill it when the grace is over."""
        self._stopping.set()
        if self._task is None:
            return
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self._task}, timeout=self.part.grace)
        if not done:
            self._say(self.part.name, f"did not stop within {self.part.grace:g} s: killed")
            self._signal(signal.SIGKILL)
        await self._task

    def kill(self) -> None:
        """End the part at once."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    async def _keep(self) -> None:
        delay = self._first_delay
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            self.deaths += 1
            if time.monotonic() - started > STEADY_SECONDS:
                delay = self._first_delay
            self._report_death(code, delay)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            delay = min(2 * delay, LONGEST_DELAY)

    async def _run_once(self) -> int:
        _begin_new_if_large(self._log)
        with self._log.open("ab") as log:
            start = log.tell()
            process = await asyncio.create_subprocess_exec(
                *self.part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **self.part.environment},
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        self._process = process
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        code = await self._follow(process, start)
        # What the part itself started must not outlive it.
        _signal_group(process.pid, signal.SIGKILL)
        return code

    async def _follow(self, process: asyncio.subprocess.Process, start: int) -> int:
        """Show the lines of the log as they come, until the process ends."""
        end = asyncio.ensure_future(process.wait())
        rest = b""
        with self._log.open("rb") as log:
            log.seek(start)
            while not end.done():
                await asyncio.wait({end}, timeout=_READ_SECONDS)
                rest = self._show(log, rest)
        return end.result()

    def _show(self, log: BinaryIO, rest: bytes) -> bytes:
        *whole, rest = (rest + log.read()).split(b"\n")
        for raw in whole:
            line = raw.decode(errors="replace").rstrip()
            self._tail.append(line)
            if line and not self.part.quiet:
                self._say(self.part.name, line)
        return rest

    def _report_death(self, code: int, delay: float) -> None:
        if self.part.quiet:
            for line in self._tail:
                self._say(self.part.name, line)
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._say(self.part.name, f"{how}; it is started again in {delay:g} s")

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            _signal_group(self.pid, number)


def die_with_parent() -> Callable[[], None] | None:
    """Return what a child runs before its program, so that it dies when its parent is killed.

    None where the system cannot do that (only Linux can): there, a supervisor that ends by
    SIGKILL leaves its parts running.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _begin_new_if_large(log: Path) -> None:
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        log.replace(log.with_suffix(".log.1"))
