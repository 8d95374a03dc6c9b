"""The ``Generator`` that decodes on this machine: an asyncio front of the decode thread."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from models.adapters import AdapterStore
from models.backends import EngineStats
from models.backends.decode_thread import DecodeThread
from models.base.loading import load_base
from models.base.prompt import encode_text
from models.decoding.bank import AdapterBank
from models.decoding.engine import Engine
from models.decoding.grammars import Grammars
from models.decoding.lora import read_adapter
from models.decoding.runners import make_runner
from models.decoding.text import TextStream
from models.errors import AdapterError, EngineError, UnknownTokenError
from models.types import GenerationChunk

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from models.backends.decode_thread import RowEvent
    from models.base.loading import Base
    from models.decoding.engine import NewToken
    from models.decoding.row import Row
    from models.settings import ModelSettings
    from models.types import FinishReason, GenerationRequest, Message, ReplyStyle, Tool


class LocalGenerator:
    """Generates replies with the engine of ``models.decoding``; see ``Generator``."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._store = AdapterStore.open(settings)
        self._bank = AdapterBank()
        self._events: dict[str, _RowEvents] = {}
        self._started: _Started | None = None

    async def start(self) -> None:
        """Load the base model and start the decode thread."""
        base, engine = await asyncio.to_thread(self._load_engine)
        loop = asyncio.get_running_loop()
        thread = DecodeThread(
            engine,
            self._bank,
            deliver=lambda events: loop.call_soon_threadsafe(self._deliver, events),
        )
        self._started = _Started(base, engine, thread)
        thread.start()

    async def close(self) -> None:
        """Stop the decode thread; requests in flight end with ``EngineError``."""
        if self._started is None:
            return
        await asyncio.to_thread(self._started.thread.close)
        error = EngineError("The server is shutting down: send the request again.")
        self._deliver([(row_id, error) for row_id in self._events])

    @property
    def context_length(self) -> int:
        """The most tokens of prompt plus reply."""
        return self._running.engine.context_length

    def encode_chat(
        self, messages: Sequence[Message], tools: Sequence[Tool] = ()
    ) -> tuple[int, ...]:
        """Return the prompt's token ids: the chat template, ending where the reply begins."""
        return self._running.base.encode_chat(messages, tools)

    def reply_style(self, prompt_ids: Sequence[int], *, tools: bool) -> ReplyStyle:
        """Return how replies to a prompt are to be read."""
        return self._running.base.reply_style(prompt_ids, tools=tools)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text, in which nothing becomes a control token."""
        return encode_text(self._running.base.tokenizer, text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, that of control tokens too."""
        last = self._running.engine.last_token
        if ids and max(ids) > last:
            raise UnknownTokenError(f"{max(ids)} is no token: the ids of this model end at {last}.")
        return str(self._running.base.tokenizer.decode(list(ids)))

    def token_text(self, token_id: int) -> str:
        """Return the text of one token; special tokens have text too."""
        text: str = self._running.base.tokenizer.decode([token_id])
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token, which may be part of a character."""
        return self._running.base.token_bytes(token_id)

    async def load(self, version: str) -> None:
        """Read and check a version's adapter in a thread of its own."""
        if version not in self._bank.loaded():
            self._bank.add(version, await asyncio.to_thread(self._read, version))

    async def unload(self, version: str) -> None:
        """Refuse a version to new requests; its last request frees the weights."""
        self._bank.retire(version)

    def adjust_threads(self, *, learning: bool) -> None:
        """Use fewer threads while a learner runs on this machine."""
        self._running.engine.adjust_threads(learning=learning)

    def loaded(self) -> frozenset[str]:
        """Return the versions that a request may name now."""
        return self._bank.loaded()

    async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        """Generate one reply; closing the iterator cancels it (``Generator`` lists the errors)."""
        matcher = None
        if request.schema:  # to compile it may take long, and others are decoding
            matcher = await asyncio.to_thread(self._running.grammars.matcher, request.schema)
        row = self._running.engine.make_row(request, matcher)
        async with aclosing(self._new_tokens(row)) as new_tokens:
            text = TextStream(self._running.base.tokenizer, request.sampling.stop, request.shown)
            async for some in new_tokens:
                chunk = _chunk(text, some)
                yield chunk
                if chunk.finish_reason is not None:
                    return

    def stats(self) -> EngineStats:
        """Return the engine's load and totals."""
        engine = self._running.engine
        return EngineStats(
            running=engine.scheduler.running,
            waiting=self._running.thread.waiting,
            tokens_total=engine.tokens_total,
            steps_total=engine.steps_total,
            reused_tokens_total=engine.reused_tokens_total,
        )

    @property
    def _running(self) -> _Started:
        if self._started is None:
            raise EngineError("The engine is not started yet: try again in a few seconds.")
        return self._started

    def _load_engine(self) -> tuple[Base, Engine]:
        base = load_base(self._settings)
        runner = make_runner(base, self._settings)
        return base, Engine(base, runner, self._bank, self._settings)

    def _read(self, version: str) -> Any:
        manifest = self._store.verify(version)
        if manifest.origin.base_hash != self._running.base.content_hash:
            raise AdapterError(
                f"Version {version} was trained on {manifest.origin.base_model}, not on the base "
                f"model served here ({self._running.base.name})."
            )
        return self._running.engine.runner.prepare(read_adapter(self._store.path(version)))

    async def _new_tokens(self, row: Row) -> AsyncGenerator[list[NewToken]]:
        """Yield the tokens since the last iteration, several when the consumer is slow."""
        if row.id in self._events:
            raise EngineError(f"A request {row.id!r} is in flight already: give each its own id.")
        events = _RowEvents()
        self._running.thread.submit(row)
        self._events[row.id] = events
        try:
            while True:
                yield await events.take()
        finally:
            # The release is due even if the row has ended by itself and left its slot.
            del self._events[row.id]
            self._running.thread.release(row)

    def _deliver(self, events: Sequence[tuple[str, RowEvent]]) -> None:
        for row_id, event in events:
            row_events = self._events.get(row_id)
            if row_events is not None:
                row_events.put(event)


class _RowEvents:
    """The events of one row that its consumer has not taken yet."""

    def __init__(self) -> None:
        self._new_tokens: list[NewToken] = []
        self._error: Exception | None = None
        self._ready = asyncio.Event()

    def put(self, event: RowEvent) -> None:
        if isinstance(event, Exception):
            self._error = event
        else:
            self._new_tokens.append(event)
        self._ready.set()

    async def take(self) -> list[NewToken]:
        """Wait for new tokens and return them; raise the row's error after the last of them."""
        await self._ready.wait()
        new_tokens, self._new_tokens = self._new_tokens, []
        if not new_tokens and self._error is not None:
            raise self._error
        if self._error is None:
            self._ready.clear()
        return new_tokens


class _Started:
    """The parts that exist once the generator is started."""

    def __init__(self, base: Base, engine: Engine, thread: DecodeThread) -> None:
        self.base = base
        vocabulary = base.model.get_output_embeddings().weight.shape[0]
        self.grammars = Grammars(base.tokenizer, vocabulary, base.end_ids)
        self.engine = engine
        self.thread = thread


def _chunk(text: TextStream, new_tokens: Sequence[NewToken]) -> GenerationChunk:
    """Return the chunk for new tokens; ends the reply at the first complete stop string."""
    new, tokens = "", []
    reason: FinishReason | None = None
    for new_token in new_tokens:
        new += text.push(new_token.token.id)
        tokens.append(new_token.token)
        if text.stopped:
            return GenerationChunk(text=new, tokens=tuple(tokens), finish_reason="stop")
        reason = new_token.finish_reason
    if reason is not None:
        new += text.finish()
    return GenerationChunk(text=new, tokens=tuple(tokens), finish_reason=reason)
