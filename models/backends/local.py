"""Our own engine as a Generator: a decode thread, and asyncio on this side of it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from models.adapters import AdapterStore
from models.backends import EngineStats
from models.backends.decode_thread import DecodeThread
from models.base.loading import load_base
from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.lora import read_adapter
from models.decoding.runners import make_runner
from models.decoding.text import TextStream
from models.errors import AdapterError, EngineError
from models.types import GenerationChunk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from models.backends.decode_thread import Item
    from models.base.loading import Base
    from models.decoding.engine import NewToken
    from models.decoding.row import Row
    from models.settings import ModelSettings
    from models.types import FinishReason, GenerationRequest, Message


class LocalGenerator:
    """Decodes on this machine."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._store = AdapterStore.open(settings)
        self._bank = AdapterBank()
        self._sinks: dict[str, _RowEvents] = {}
        self._started: _Started | None = None

    async def start(self) -> None:
        """Load the base model and start the decode thread."""
        base, engine = await asyncio.to_thread(self._load_engine)
        loop = asyncio.get_running_loop()
        thread = DecodeThread(
            engine,
            self._bank,
            tell=lambda items: loop.call_soon_threadsafe(self._deliver, items),
        )
        self._started = _Started(base, engine, thread)
        thread.start()

    async def close(self) -> None:
        """Stop the decode thread; requests in flight end with ``EngineError``."""
        if self._started is None:
            return
        await asyncio.to_thread(self._started.thread.close)
        error = EngineError("The server is shutting down: send the request again.")
        self._deliver([(row_id, error) for row_id in self._sinks])

    @property
    def context_length(self) -> int:
        """Most tokens of prompt plus reply."""
        return self._live.engine.context_length

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the prompt's token ids, the chat template applied, ready for a reply."""
        return self._live.base.encode_chat(messages)

    def token_text(self, token_id: int) -> str:
        """Return the text of one token, special tokens included."""
        text: str = self._live.base.tokenizer.decode([token_id])
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token, which may be half a character."""
        return self._live.base.token_bytes(token_id)

    async def load(self, version: str) -> None:
        """Read and check a version's adapter off the event loop and the decode thread."""
        if version not in self._bank.loaded():
            self._bank.add(version, await asyncio.to_thread(self._read, version))

    async def unload(self, version: str) -> None:
        """Forget a version; its weights are freed when its last request ends."""
        self._bank.retire(version)

    def adjust_threads(self, *, learning: bool) -> None:
        """Leave cores to a learner on this machine, or take them back."""
        self._live.engine.adjust_threads(learning=learning)

    def loaded(self) -> frozenset[str]:
        """Return the versions that a request may name now."""
        return self._bank.loaded()

    async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        """Decode one reply; closing the iterator cancels it (see the protocol for errors)."""
        row = self._live.engine.make_row(request)
        async with aclosing(self._gains(row)) as gains:
            text = TextStream(self._live.base.tokenizer, request.sampling.stop)
            async for some in gains:
                chunk = _chunk(text, some)
                yield chunk
                if chunk.finish_reason is not None:
                    return

    def stats(self) -> EngineStats:
        """Return what the engine does right now."""
        engine = self._live.engine
        return EngineStats(
            running=engine.scheduler.running,
            waiting=self._live.thread.waiting,
            tokens_total=engine.tokens_total,
            steps_total=engine.steps_total,
            reused_tokens_total=engine.reused_tokens_total,
        )

    @property
    def _live(self) -> _Started:
        if self._started is None:
            raise EngineError("The engine is not started yet: try again in a few seconds.")
        return self._started

    def _load_engine(self) -> tuple[Base, Engine]:
        base = load_base(self._settings)
        runner = make_runner(base, self._settings)
        return base, Engine(base, runner, self._bank, self._settings)

    def _read(self, version: str) -> Any:
        manifest = self._store.verify(version)
        if manifest.origin.base_hash != self._live.base.content_hash:
            raise AdapterError(
                f"Version {version} was trained on {manifest.origin.base_model}, not on the base "
                f"model served here ({self._live.base.name})."
            )
        return self._live.engine.runner.prepare(read_adapter(self._store.path(version)))

    async def _gains(self, row: Row) -> AsyncGenerator[list[NewToken]]:
        """Yield what has come since the last time: more than one token when we are slow."""
        if row.id in self._sinks:
            raise EngineError(f"A request {row.id!r} is in flight already: give each its own id.")
        sink = _RowEvents()
        self._live.thread.arrive(row)
        self._sinks[row.id] = sink
        try:
            while True:
                yield await sink.take()
        finally:
            # A row that finished by itself has left its slot already; departing again is harmless.
            del self._sinks[row.id]
            self._live.thread.depart(row)

    def _deliver(self, items: Sequence[tuple[str, Item]]) -> None:
        for row_id, item in items:
            sink = self._sinks.get(row_id)
            if sink is not None:
                sink.put(item)


class _RowEvents:
    """What one row was told and nobody has taken yet."""

    def __init__(self) -> None:
        self._gains: list[NewToken] = []
        self._error: Exception | None = None
        self._news = asyncio.Event()

    def put(self, item: Item) -> None:
        if isinstance(item, Exception):
            self._error = item
        else:
            self._gains.append(item)
        self._news.set()

    async def take(self) -> list[NewToken]:
        """Wait for gains and return them; raise the error once they are all taken."""
        await self._news.wait()
        gains, self._gains = self._gains, []
        if not gains and self._error is not None:
            raise self._error
        if self._error is None:
            self._news.clear()
        return gains


class _Started:
    """What exists once the engine runs."""

    def __init__(self, base: Base, engine: Engine, thread: DecodeThread) -> None:
        self.base = base
        self.engine = engine
        self.thread = thread


def _chunk(text: TextStream, gains: Sequence[NewToken]) -> GenerationChunk:
    """Return what tokens add to the reply; a stop string that they complete ends it there."""
    new, tokens = "", []
    reason: FinishReason | None = None
    for gain in gains:
        new += text.push(gain.token.id)
        tokens.append(gain.token)
        if text.stopped:
            return GenerationChunk(text=new, tokens=tuple(tokens), finish_reason="stop")
        reason = gain.finish_reason
    if reason is not None:
        new += text.finish()
    return GenerationChunk(text=new, tokens=tuple(tokens), finish_reason=reason)
