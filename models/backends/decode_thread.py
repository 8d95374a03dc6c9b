"""The thread that runs the engine step by step, and delivers new tokens after each step."""

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

RowEvent: TypeAlias = NewToken | Exception
"""A new token of a row, or the error that ends the row."""

_Message: TypeAlias = Literal["submit", "release"]

_log = logging.getLogger(__name__)


class DecodeThread:
    """Runs engine steps while rows are waiting or running.

    A row that ``submit`` accepts holds its version's weights until ``release``. The caller calls
    ``release`` exactly once for each such row, however the row ended.

    Args:
        engine: The engine, which only this thread uses once it runs.
        bank: The adapters, which counts the rows of each version.
        deliver: Called on this thread with the ids and events of rows, in order.
    """

    def __init__(
        self,
        engine: Engine,
        bank: AdapterBank,
        deliver: Callable[[Sequence[tuple[str, RowEvent]]], object],
    ) -> None:
        self._engine = engine
        self._bank = bank
        self._deliver = deliver
        # One queue for both kinds of message, so that a row's submission precedes its release.
        self._messages: deque[tuple[_Message, Row]] = deque()
        self._rows: dict[str, Row] = {}
        self._wake = threading.Condition()
        self._closing = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread after the step in progress, and wait for it."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """The number of rows that wait for a slot."""
        with self._wake:
            arriving = sum(message == "submit" for message, _ in self._messages)
        return self._engine.scheduler.waiting + arriving

    def submit(self, row: Row) -> None:
        """Submit a row, and hold its version's weights.

        Raises:
            AdapterError: The version is not loaded.
            EngineError: The thread is closing.
        """
        with self._wake:
            if self._closing:
                raise EngineError("The server is shutting down: send the request again.")
            self._bank.pin(row.request.version)
            self._messages.append(("submit", row))
            self._wake.notify()

    def release(self, row: Row) -> None:
        """Remove a row, if it has not ended by itself, and release its version's weights."""
        with self._wake:
            self._messages.append(("release", row))
            if self._ended:
                self._take_messages()
            self._wake.notify()

    def _run(self) -> None:
        while self._wait_for_work():
            if torch.get_num_threads() != self._engine.runner.torch_threads:
                torch.set_num_threads(self._engine.runner.torch_threads)
            try:
                self._take_messages()
                new_tokens = self._engine.step()
            except Exception:  # the engine must serve the next request after any failure
                _log.exception("A decode step failed; every reply in flight ends with an error")
                self._fail_all()
            else:
                if new_tokens:
                    self._deliver([(new_token.row.id, new_token) for new_token in new_tokens])
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
            if message == "submit":
                self._admit(row)
            else:
                self._remove(row)

    def _admit(self, row: Row) -> None:
        try:
            self._engine.scheduler.submit(row)
        except QueueFullError as error:
            self._deliver([(row.id, error)])
        else:
            self._rows[row.id] = row

    def _remove(self, row: Row) -> None:
        try:
            self._engine.cancel(row.id)
        finally:
            self._rows.pop(row.id, None)
            self._bank.release(row.request.version)

    def _fail_all(self) -> None:
        # The engine may have removed rows that ended in the failed step, so ``_rows`` is used.
        self._engine.drop()
        error = EngineError("Decoding failed: send the request again.")
        self._deliver([(row_id, error) for row_id in self._rows])
