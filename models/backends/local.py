"""Our own engine as a Generator: a decode thread, and asyncio on this side of it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from models.adapters import AdapterStore
from models.backends import EngineStats
from models.base import load_base
from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.lora import read_adapter
from models.errors import AdapterError, EngineError, QueueFullError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from models.base import Base
    from models.decoding.row import Row
    from models.settings import ModelSettings
    from models.types import GenerationChunk, GenerationRequest, Message

    Item: TypeAlias = GenerationChunk | Exception

_log = logging.getLogger(__name__)


class LocalGenerator:
    """Decodes on this machine."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._store = AdapterStore(settings.adapters_dir)
        self._bank = AdapterBank()
        self._sinks: dict[str, asyncio.Queue[Item]] = {}
        self._arrivals: deque[Row] = deque()
        self._departures: deque[Row] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._started: _Started | None = None

    async def start(self) -> None:
        """Load the base model and start the decode thread."""
        base = await asyncio.to_thread(load_base, self._settings)
        engine = Engine(base, self._bank, self._settings)
        thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._started = _Started(base, engine, thread, asyncio.get_running_loop())
        thread.start()

    async def close(self) -> None:
        """Stop the decode thread; requests in flight end with ``EngineError``."""
        if self._started is None:
            return
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._started.thread.join)
        self._fail_all(EngineError("The server is shutting down: send the request again."))

    @property
    def context_length(self) -> int:
        """Most tokens of prompt plus reply."""
        length: int = self._live.engine.context_length
        return length

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the prompt's token ids, the chat template applied, ready for a reply."""
        return self._live.base.encode_chat(messages)

    def token_text(self, token_id: int) -> str:
        """Return the text of one token, special tokens included."""
        text: str = self._live.base.tokenizer.decode([token_id])
        return text

    async def load(self, version: str) -> None:
        """Read and check a version's adapter off the event loop and the decode thread."""
        if version not in self._bank.loaded():
            self._bank.add(version, await asyncio.to_thread(self._read, version))

    async def unload(self, version: str) -> None:
        """Forget a version; its weights are freed when its last request ends."""
        self._bank.retire(version)

    def loaded(self) -> frozenset[str]:
        """Return the versions that a request may name now."""
        return self._bank.loaded()

    async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        """Decode one reply; closing the iterator cancels it (see the protocol for errors)."""
        row = self._live.engine.make_row(request)
        if self._closing:
            raise EngineError("The server is shutting down: send the request again.")
        self._bank.pin(request.version)  # the decode thread releases it, when the row has left
        async with aclosing(self._stream(row)) as stream:
            async for chunk in stream:
                yield chunk

    def stats(self) -> EngineStats:
        """Return what the engine does right now."""
        engine = self._live.engine
        return EngineStats(
            running=engine.scheduler.running,
            waiting=engine.scheduler.waiting + len(self._arrivals),
            tokens_total=engine.tokens_total,
            steps_total=engine.steps_total,
        )

    @property
    def _messages(self) -> int:
        return len(self._arrivals) + len(self._departures)

    @property
    def _live(self) -> _Started:
        if self._started is None:
            raise EngineError("The engine is not started yet: try again in a few seconds.")
        return self._started

    def _read(self, version: str) -> Any:
        manifest = self._store.verify(version)
        if manifest.origin.base_hash != self._live.base.content_hash:
            raise AdapterError(
                f"Version {version} was trained on {manifest.origin.base_model}, not on the base "
                f"model served here ({self._live.base.name})."
            )
        adapter = read_adapter(
            self._store.path(version),
            dtype=getattr(torch, self._settings.dtype),
            device=self._settings.device,
        )
        self._live.engine.switch.check(adapter)
        return adapter

    async def _stream(self, row: Row) -> AsyncGenerator[GenerationChunk]:
        sink: asyncio.Queue[Item] = asyncio.Queue()
        self._sinks[row.id] = sink
        self._tell(arrival=row)
        try:
            while True:
                item = await sink.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.finish_reason is not None:
                    return
        finally:
            # A row that finished by itself has left its slot already; departing again is harmless.
            del self._sinks[row.id]
            self._tell(departure=row)

    def _tell(self, *, arrival: Row | None = None, departure: Row | None = None) -> None:
        with self._wake:
            if arrival is not None:
                self._arrivals.append(arrival)
            if departure is not None:
                self._departures.append(departure)
            self._wake.notify()

    # Everything below runs on the decode thread.

    def _run(self) -> None:
        if self._settings.engine_threads:
            torch.set_num_threads(self._settings.engine_threads)
        engine = self._live.engine
        while self._wait_for_work(engine):
            refused = self._take_messages(engine)
            self._live.loop.call_soon_threadsafe(self._deliver, refused)
            try:
                gained = engine.step()
            except Exception:  # whatever went wrong, the next request must find a live engine
                _log.exception("A decode step failed; every reply in flight ends with an error")
                self._drop_all(engine)
                continue
            items: list[tuple[str, Item]] = [(row.id, chunk) for row, chunk in gained]
            self._live.loop.call_soon_threadsafe(self._deliver, items)

    def _wait_for_work(self, engine: Engine) -> bool:
        with self._wake:
            while not self._closing and engine.scheduler.idle and not self._messages:
                self._wake.wait()
            return not self._closing

    def _take_messages(self, engine: Engine) -> list[tuple[str, Item]]:
        with self._wake:
            arrivals, departures = list(self._arrivals), list(self._departures)
            self._arrivals.clear()
            self._departures.clear()
        refused: list[tuple[str, Item]] = []
        for row in arrivals:
            try:
                engine.scheduler.submit(row)
            except QueueFullError as error:
                refused.append((row.id, error))
        for row in departures:
            engine.cancel(row.id)
            self._bank.release(row.request.version)
        return refused

    def _drop_all(self, engine: Engine) -> None:
        engine.scheduler.clear()
        error = EngineError("Decoding failed: send the request again.")
        self._live.loop.call_soon_threadsafe(self._fail_all, error)

    # Back on the event loop.

    def _deliver(self, items: list[tuple[str, Item]]) -> None:
        for row_id, item in items:
            sink = self._sinks.get(row_id)
            if sink is not None:
                sink.put_nowait(item)

    def _fail_all(self, error: Exception) -> None:
        self._deliver([(row_id, error) for row_id in self._sinks])


class _Started:
    """What exists once the engine runs."""

    def __init__(
        self,
        base: Base,
        engine: Engine,
        thread: threading.Thread,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.base = base
        self.engine = engine
        self.thread = thread
        self.loop = loop
