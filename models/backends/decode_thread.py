"""The thread that steps the engine: rows come and go between two steps, gains go out after each."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

import torch

from models.decoding.engine import Gain
from models.errors import EngineError, QueueFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.decoding.bank import AdapterBank
    from models.decoding.engine import Engine
    from models.decoding.row import Row

Item: TypeAlias = Gain | Exception
"""What a row is told: a token, or the error that ends it."""

_log = logging.getLogger(__name__)


class DecodeThread:
    """Steps the engine while there is something to do.

    Each row that ``arrive`` takes holds its version's weights until ``depart``, which must be
    called exactly once for it, however it ended.

    Args:
        engine: Used by this thread alone, once it runs.
        bank: Counts the rows of each version.
        tell: Called on this thread with rows' ids and what each is told, in order.
        threads: torch threads; 0 leaves torch's own choice.
    """

    def __init__(
        self,
        engine: Engine,
        bank: AdapterBank,
        tell: Callable[[Sequence[tuple[str, Item]]], object],
        threads: int,
    ) -> None:
        self._engine = engine
        self._bank = bank
        self._tell = tell
        self._threads = threads
        self._arrivals: deque[Row] = deque()
        self._departures: deque[Row] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the step in progress; waits for it."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Rows that wait for a slot."""
        return self._engine.scheduler.waiting + len(self._arrivals)

    def arrive(self, row: Row) -> None:
        """Hand a row over, holding its version.

        Raises:
            AdapterError: The version is not loaded.
            EngineError: The thread is closing.
        """
        with self._wake:
            if self._closing:
                raise EngineError("The server is shutting down: send the request again.")
            self._bank.pin(row.request.version)
            self._arrivals.append(row)
            self._wake.notify()

    def depart(self, row: Row) -> None:
        """Take a row out, if it has not left by itself, and let go of its version."""
        with self._wake:
            self._departures.append(row)
            if self._ended:
                self._see_off()
            self._wake.notify()

    def _run(self) -> None:
        if self._threads:
            torch.set_num_threads(self._threads)
        while self._wait_for_work():
            try:
                self._admit()
                self._see_off()
                gained = self._engine.step()
            except Exception:  # whatever went wrong, the next request must find a live engine
                _log.exception("A decode step failed; every reply in flight ends with an error")
                self._drop_all()
            else:
                self._tell([(gain.row.id, gain) for gain in gained])
        with self._wake:
            self._ended = True
            self._see_off()

    def _wait_for_work(self) -> bool:
        with self._wake:
            while not (
                self._closing
                or self._arrivals
                or self._departures
                or not self._engine.scheduler.idle
            ):
                self._wake.wait()
            return not self._closing

    def _admit(self) -> None:
        while self._arrivals:
            row = self._arrivals.popleft()
            try:
                self._engine.scheduler.submit(row)
            except QueueFullError as error:
                self._tell([(row.id, error)])

    def _see_off(self) -> None:
        while self._departures:
            row = self._departures.popleft()
            try:
                self._engine.cancel(row.id)
            finally:
                self._bank.release(row.request.version)

    def _drop_all(self) -> None:
        error = EngineError("Decoding failed: send the request again.")
        self._tell([(row.id, error) for row in self._engine.drop()])
