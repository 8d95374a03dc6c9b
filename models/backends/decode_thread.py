"""The thread that steps the engine: rows come and go between two steps, gains go out after each."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from models.decoding.engine import NewToken
from models.errors import EngineError, QueueFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.decoding.bank import AdapterBank
    from models.decoding.engine import Engine
    from models.decoding.row import Row

Item: TypeAlias = NewToken | Exception
"""What a row is told: a token, or the error that ends it."""

_Message: TypeAlias = Literal["arrive", "depart"]

_log = logging.getLogger(__name__)


class DecodeThread:
    """Steps the engine while there is something to do.

    Each row that ``arrive`` takes holds its version's weights until ``depart``, which must be
    called exactly once for it, however it ended.

    Args:
        engine: Used by this thread alone, once it runs.
        bank: Counts the rows of each version.
        tell: Called on this thread with rows' ids and what each is told, in order.
    """

    def __init__(
        self,
        engine: Engine,
        bank: AdapterBank,
        tell: Callable[[Sequence[tuple[str, Item]]], object],
    ) -> None:
        self._engine = engine
        self._bank = bank
        self._tell = tell
        # In order, for a row's arrival comes before its departure.
        self._messages: deque[tuple[_Message, Row]] = deque()
        self._rows: dict[str, Row] = {}
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
        with self._wake:
            arriving = sum(message == "arrive" for message, _ in self._messages)
        return self._engine.scheduler.waiting + arriving

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
            self._messages.append(("arrive", row))
            self._wake.notify()

    def depart(self, row: Row) -> None:
        """Take a row out, if it has not left by itself, and let go of its version."""
        with self._wake:
            self._messages.append(("depart", row))
            if self._ended:
                self._take_messages()
            self._wake.notify()

    def _run(self) -> None:
        while self._wait_for_work():
            if torch.get_num_threads() != self._engine.runner.torch_threads:
                torch.set_num_threads(self._engine.runner.torch_threads)
            try:
                self._take_messages()
                gained = self._engine.step()
            except Exception:  # whatever went wrong, the next request must find a live engine
                _log.exception("A decode step failed; every reply in flight ends with an error")
                self._drop_all()
            else:
                if gained:
                    self._tell([(gain.row.id, gain) for gain in gained])
        with self._wake:
            self._ended = True
            self._engine.drop()
            self._take_messages()

    def _wait_for_work(self) -> bool:
        with self._wake:
            while not self._closing and not self._messages and self._engine.scheduler.idle:
                self._wake.wait()
            return not self._closing

    def _take_messages(self) -> None:
        while True:
            with self._wake:
                if not self._messages:
                    return
                message, row = self._messages.popleft()
            if message == "arrive":
                self._admit(row)
            else:
                self._see_off(row)

    def _admit(self, row: Row) -> None:
        try:
            self._engine.scheduler.submit(row)
        except QueueFullError as error:
            self._tell([(row.id, error)])
        else:
            self._rows[row.id] = row

    def _see_off(self, row: Row) -> None:
        try:
            self._engine.cancel(row.id)
        finally:
            self._rows.pop(row.id, None)
            self._bank.release(row.request.version)

    def _drop_all(self) -> None:
        # Not only those that the engine still has: some may have ended in the step that failed.
        self._engine.drop()
        error = EngineError("Decoding failed: send the request again.")
        self._tell([(row_id, error) for row_id in self._rows])
