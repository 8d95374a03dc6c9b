"""Backends that generate replies, behind the ``Generator`` protocol that the service uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from models.types import GenerationChunk, GenerationRequest, Message, ReplyStyle, Tool


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The load of an engine now, and its totals since the start.

    Attributes:
        running: The requests that decode or prefill.
        waiting: The requests in the queue.
        tokens_total: The tokens generated.
        steps_total: The forward passes run.
        reused_tokens_total: The prompt tokens taken from the prefix cache.
    """

    running: int
    waiting: int
    tokens_total: int
    steps_total: int
    reused_tokens_total: int = 0


class Generator(Protocol):
    """Generates replies, each with one policy version from its first token to its last."""

    @property
    def context_length(self) -> int:
        """The most tokens of prompt plus reply."""
        ...

    async def start(self) -> None:
        """Load the base model, which takes seconds, without blocking the event loop."""
        ...

    async def close(self) -> None:
        """Stop generating; requests in flight end with ``EngineError``."""
        ...

    def encode_chat(
        self, messages: Sequence[Message], tools: Sequence[Tool] = ()
    ) -> tuple[int, ...]:
        """Return the prompt's token ids: the chat template, ending where the reply begins.

        Raises:
            ChatTemplateError: The template refuses the conversation.
            ToolsUnsupportedError: The template has no place for tools.
        """
        ...

    def reply_style(self, prompt_ids: Sequence[int], *, tools: bool) -> ReplyStyle:
        """Return how replies to a prompt are to be read; ``tools``: whether it offers any.

        Raises:
            ToolsUnsupportedError: The template tells of no way of calling tools that is known here.
        """
        ...

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text, in which nothing becomes a control token."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, that of control tokens too.

        Raises:
            UnknownTokenError: There is no such token.
        """
        ...

    def token_text(self, token_id: int) -> str:
        """Return the text of one token; special tokens have text too."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token, which may be part of a character."""
        ...

    async def load(self, version: str) -> None:
        """Read and check a version's adapter without delaying decoding.

        ``base`` is always loaded.

        Raises:
            AdapterError: The folder is missing or broken, or belongs to another base.
        """
        ...

    async def unload(self, version: str) -> None:
        """Refuse a version to new requests; its last request frees the weights."""
        ...

    def adjust_threads(self, *, learning: bool) -> None:
        """Use fewer threads while a learner runs on this machine."""
        ...

    def loaded(self) -> frozenset[str]:
        """Return the versions that a request may name now, with ``base``."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        """Generate one reply; closing the iterator cancels it.

        Raises:
            GrammarError: The request's schema cannot be held.
            PromptTooLongError: Prompt plus ``max_tokens`` exceed the context.
            QueueFullError: Too many requests wait already.
            AdapterError: The version is not loaded.
            EngineError: The engine is closed or has failed.
        """
        ...

    def stats(self) -> EngineStats:
        """Return the engine's load and totals."""
        ...
