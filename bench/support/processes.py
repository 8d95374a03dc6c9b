"""Memory and processor time of groups of processes, signals to them, and an orderly end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import FrameType

_SAMPLE_SECONDS = 0.5


def in_session(leader: int) -> list[int]:
    """Return the ids of all processes of a session, whoever their parents are."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def resident_mib(pids: Iterable[int]) -> list[float]:
    """Return the resident memory of each process that is still there; shared pages count in all."""
    sizes = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            sizes.append(psutil.Process(pid).memory_info().rss / 2**20)
    return sizes


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that the processes have used so far."""
    seconds = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            used = psutil.Process(pid).cpu_times()
            seconds += used.user + used.system
    return seconds


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end_in_order() -> None:
    """Make SIGTERM end this process through its `finally` blocks, which end what it started."""

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


class MemoryWatch:
    """Looks at the memory of some processes twice a second while its block runs.

    Attributes:
        peak_mib: The most that all of them had together.
        largest_mib: The most that one of them had.
    """

    def __init__(self, pids: Callable[[], Sequence[int]]) -> None:
        self.peak_mib = 0.0
        self.largest_mib = 0.0
        self._pids = pids
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def figures(self) -> dict[str, int]:
        """Return both as figures."""
        return {"memory_mib": round(self.peak_mib), "largest_mib": round(self.largest_mib)}

    def _watch(self) -> None:
        # Servers start no processes while they are measured; looking for them would cost more
        # than looking at them.
        pids = self._pids()
        while True:
            sizes = resident_mib(pids)
            self.peak_mib = max(self.peak_mib, sum(sizes))
            self.largest_mib = max([self.largest_mib, *sizes])
            if self._ended.wait(_SAMPLE_SECONDS):
                return
