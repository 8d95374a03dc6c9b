"""What can decode: the Generator protocol that the service speaks to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from models.types import GenerationChunk, GenerationRequest, Message


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Rows running, requests waiting for a row, and totals since the start.

    ``reused_tokens_total`` counts prompt tokens that were not computed again, because an earlier
    request with the same beginning had left them.
    """

    running: int
    waiting: int
    tokens_total: int
    steps_total: int
    reused_tokens_total: int = 0


class Generator(Protocol):
    """Decodes replies, each pinned to one policy version."""

    @property
    def context_length(self) -> int:
        """Most tokens of prompt plus reply."""
        ...

    async def start(self) -> None:
        """Load the base model; takes seconds and does not block the event loop."""
        ...

    async def close(self) -> None:
        """Stop decoding; requests in flight end with ``EngineError``."""
        ...

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the prompt's token ids, the chat template applied, ready for a reply."""
        ...

    def token_text(self, token_id: int) -> str:
        """Return the text of one token, special tokens included."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token; its text may lack them, if they are half a character."""
        ...

    async def load(self, version: str) -> None:
        """Read and check a version's adapter, off the decode thread; ``base`` is always loaded.

        Raises:
            AdapterError: The folder is missing, broken or not for this base.
        """
        ...

    async def unload(self, version: str) -> None:
        """Forget a version; its weights are freed when its last request ends."""
        ...

    def adjust_threads(self, *, learning: bool) -> None:
        """Leave cores to a learner on this machine, or take them back."""
        ...

    def loaded(self) -> frozenset[str]:
        """Return the versions that a request may name now; ``base`` is among them."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncIterator[GenerationChunk]:
        """Decode one reply; closing the iterator cancels it.

        Raises:
            PromptTooLongError: Prompt plus ``max_tokens`` exceed the context.
            QueueFullError: Too many requests wait already.
            AdapterError: The version is not loaded.
            EngineError: The engine is closed or failed.
        """
        ...

    def stats(self) -> EngineStats:
        """Return what the engine does right now."""
        ...
