"""A generator without a model: one token per character, a fixed reply per version."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from models.backends import EngineStats
from models.errors import AdapterError, EngineError, QueueFullError
from models.types import BASE, GenerationChunk, ReplyStyle, Token, TopLogprob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from models.types import FinishReason, GenerationRequest, Message, Tool

END = 0
LOGPROB = math.log(0.5)


class FakeGenerator:
    """Knows the versions in ``available``; says ``texts[version]``, or ``I am <version>``."""

    context_length = 200

    def __init__(self, available: Sequence[str] = (), step_seconds: float = 0.0) -> None:
        self.available = set(available)
        self.style = ReplyStyle(tools="hermes")
        self.tools: Sequence[Tool] = ()
        self.texts: dict[str, str] = {}
        self.step_seconds = step_seconds
        self.max_running = 100
        self.fail_after: int | None = None
        self.start_error: Exception | None = None
        self.requests: list[GenerationRequest] = []
        self.cancelled: list[str] = []
        self.running = 0
        self.waiting = 0
        self.tokens = 0
        self.reused = 0
        self.held = asyncio.Event()
        self.held.set()
        self._loaded = {BASE}

    async def start(self) -> None:
        if self.start_error is not None:
            raise self.start_error

    async def close(self) -> None:
        pass

    def encode_chat(
        self, messages: Sequence[Message], tools: Sequence[Tool] = ()
    ) -> tuple[int, ...]:
        self.tools = tools
        return tuple(ord(letter) for message in messages for letter in message.content)

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(self.token_text, ids))

    def reply_style(self, prompt_ids: Sequence[int], *, tools: bool) -> ReplyStyle:
        del prompt_ids
        return self.style if tools else replace(self.style, tools=None)

    def token_text(self, token_id: int) -> str:
        return "<end>" if token_id == END else chr(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        return self.token_text(token_id).encode()

    async def load(self, version: str) -> None:
        await asyncio.sleep(0)
        if version != BASE and version not in self.available:
            raise AdapterError(f"{version} is broken.")
        self._loaded.add(version)

    async def unload(self, version: str) -> None:
        self._loaded.discard(version)

    def adjust_threads(self, *, learning: bool) -> None:
        self.learner_has_room = learning

    def loaded(self) -> frozenset[str]:
        return frozenset(self._loaded)

    def stats(self) -> EngineStats:
        return EngineStats(self.running, self.waiting, self.tokens, self.tokens, self.reused)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        if request.version not in self._loaded:
            raise AdapterError(f"{request.version} is not loaded.")
        if self.running >= self.max_running:
            raise QueueFullError(self.running)
        self.requests.append(request)
        self.running += 1
        finished = False
        try:
            for chunk in self._chunks(request):
                await asyncio.sleep(self.step_seconds)
                await self.held.wait()
                self.tokens += 1
                finished = chunk.finish_reason is not None
                yield chunk
        finally:
            self.running -= 1
            if not finished:
                self.cancelled.append(request.id)

    def _chunks(self, request: GenerationRequest) -> Iterator[GenerationChunk]:
        text = self.texts.get(request.version, f"I am {request.version}")
        steps = [(letter, ord(letter)) for letter in text] + [("", END)]
        steps = steps[: request.sampling.max_tokens]
        for number, (letter, token_id) in enumerate(steps, start=1):
            if self.fail_after is not None and number > self.fail_after:
                raise EngineError("The engine broke.")
            reason: FinishReason | None = None
            if number == len(steps):
                reason = "stop" if token_id == END else "length"
            top = (TopLogprob(token_id, LOGPROB), TopLogprob(65, -math.inf))
            token = Token(token_id, LOGPROB, top[: request.top_logprobs])
            yield GenerationChunk(letter, (token,), reason)
