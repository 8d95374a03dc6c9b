"""The decoding engine: each ``step`` decodes one token of every row and prefills more prompts.

The engine is synchronous and single-threaded; ``models.backends.decode_thread`` runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.decoding.prefix import PrefixCache
from models.decoding.queue import WaitingQueue
from models.decoding.row import Row
from models.decoding.runner import Segment
from models.decoding.scheduler import Scheduler
from models.errors import EngineError, PromptTooLongError, UnknownTokenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.base.loading import Base
    from models.decoding.adjusting import Matcher
    from models.decoding.bank import AdapterBank
    from models.decoding.runner import Runner
    from models.decoding.scheduler import StepPlan
    from models.settings import ModelSettings
    from models.types import FinishReason, GenerationRequest, Token


# Small blocks, so that even the 25-token system prompt of the default base's template is reused.
_BLOCK_TOKENS = 8
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that one step added to a row; the last token of a row has a ``finish_reason``."""

    row: Row
    token: Token
    finish_reason: FinishReason | None


class Engine:
    """Decodes replies of several policy versions together, over one frozen base.

    Args:
        base: The base whose end-of-reply ids are used.
        runner: The forward pass, with its KV cache.
        bank: The adapters in memory.
        settings: The limits of the queue, of prefill and of the prefix cache.
    """

    def __init__(
        self, base: Base, runner: Runner, bank: AdapterBank, settings: ModelSettings
    ) -> None:
        self.runner = runner
        self._settings = settings
        self.context_length = runner.cache.context
        self._end_ids = base.end_ids
        self._base = base
        self._bank = bank
        queue: WaitingQueue[Row] = WaitingQueue(
            max_rows=settings.max_queue, max_rows_per_user=settings.max_queue_per_user
        )
        slots = runner.cache.keys.shape[1]
        self.scheduler: Scheduler[Row] = Scheduler(
            queue, max_rows=slots, prefill_chunk=settings.prefill_chunk
        )
        self._prefixes: PrefixCache[torch.Tensor] = PrefixCache(
            capacity_bytes=settings.prefix_cache_mib * _MIB,
            block_bytes=runner.cache.bytes_per_token * _BLOCK_TOKENS,
            block_tokens=_BLOCK_TOKENS,
        )
        self.tokens_total = 0
        self.steps_total = 0
        self.reused_tokens_total = 0

    def adjust_threads(self, *, learning: bool) -> None:
        """Set the threads of the next steps: fewer while a learner runs on this machine.

        The prefill chunk shrinks with the threads, so that a step takes no longer. May be called
        from any thread.
        """
        threads = self._settings.step_threads(learning=learning)
        self.runner.threads = threads
        chunk = self._settings.prefill_chunk * threads // self._settings.step_threads()
        self.scheduler.prefill_chunk = max(1, chunk)

    def make_row(self, request: GenerationRequest, matcher: Matcher | None = None) -> Row:
        """Return the initial state of a request, checked against the context length.

        Args:
            request: The request.
            matcher: Follows the reply through its grammar; None without one.

        Raises:
            PromptTooLongError: Prompt plus ``max_tokens`` exceed the context.
            UnknownTokenError: ``logit_bias`` names a token that there is not.
            EngineError: The prompt is empty.
        """
        if not request.prompt_ids:
            raise EngineError("The prompt is empty: send at least one token.")
        prompt, most = len(request.prompt_ids), request.sampling.max_tokens
        if prompt + most > self.context_length:
            raise PromptTooLongError(prompt, most, self.context_length)
        if request.sampling.logit_bias:
            self._check_bias([token_id for token_id, _ in request.sampling.logit_bias])
        return Row(request, self._end_ids, matcher)

    def _check_bias(self, ids: Sequence[int]) -> None:
        last = self.last_token
        if max(ids) > last:
            raise UnknownTokenError(
                f"`logit_bias` names the token {max(ids)}, but the ids of this model end at {last}."
            )

    @property
    def last_token(self) -> int:
        """The last of the model's token ids."""
        return int(self._base.model.get_output_embeddings().weight.shape[0]) - 1

    @torch.inference_mode()
    def cancel(self, row_id: str) -> None:
        """Remove a row, waiting or running; its slot is free for the next step."""
        self._remove(row_id)

    @torch.inference_mode()
    def step(self) -> list[NewToken]:
        """Advance every row; return the new tokens, and remove the finished rows."""
        # 1. Plan which rows decode and which prompt chunks are prefilled.
        for version in self._bank.take_freed():
            self._prefixes.forget(version)
        plan = self.scheduler.plan(self._restore)
        segments = _segments(plan)
        if not segments:
            return []
        # 2. Run the model once over all segments.
        tokens = self.runner.run(segments, self._bank.adapters)
        # 3. Append each row's token; rows whose prompt is complete decode from the next step on.
        self.scheduler.advance(plan)
        new_tokens = _accept(plan, tokens)
        # 4. Cache complete prompts for reuse, and free the slots of finished rows.
        for chunk in plan.chunks:
            if chunk.is_last:
                self._store(chunk.row.id)
        for new_token in new_tokens:
            if new_token.finish_reason is not None:
                self._remove(new_token.row.id)
        self.steps_total += 1
        self.tokens_total += len(new_tokens)
        return new_tokens

    def drop(self) -> tuple[Row, ...]:
        """Remove every row after a failed step, and return them."""
        return self.scheduler.clear()

    def _restore(self, row: Row, slot: int) -> int:
        """Copy cached blocks of a new row's prompt to its slot; return how many tokens."""
        version, ids = row.request.version, row.request.prompt_ids
        blocks, size = self._prefixes.match(version, ids, len(ids) - 1), self._prefixes.block_tokens
        for number, block in enumerate(blocks):
            self.runner.cache.write_block(slot, number * size, block)
        reused = len(blocks) * size
        self.reused_tokens_total += reused
        return reused

    def _store(self, row_id: str) -> None:
        """Cache the written positions of a row for later rows with the same beginning."""
        place = self.scheduler.find(row_id)
        if place is None:
            return
        cache, size = self.runner.cache, self._prefixes.block_tokens
        self._prefixes.store(
            place.row.request.version,
            place.row.ids[: place.written],
            lambda start: cache.read_block(place.slot, start, size),
        )

    def _remove(self, row_id: str) -> None:
        self._store(row_id)
        for move in self.scheduler.remove(row_id):
            self.runner.cache.move(move)


def _segments(plan: StepPlan[Row]) -> list[Segment]:
    """Return the plan's segments; draws one random number for each row that samples."""
    decoding = [
        Segment(slot, row.position, row.generated[-1:], row.adapter, row.draw())
        for slot, row in enumerate(plan.decoding)
    ]
    chunks = [
        Segment(
            chunk.slot,
            chunk.start,
            chunk.row.request.prompt_ids[chunk.start : chunk.stop],
            chunk.row.adapter,
            chunk.row.draw() if chunk.is_last else None,
        )
        for chunk in plan.chunks
    ]
    return decoding + chunks


def _accept(plan: StepPlan[Row], tokens: Sequence[Token | None]) -> list[NewToken]:
    rows = [*plan.decoding, *(chunk.row for chunk in plan.chunks)]
    return [
        NewToken(row, token, row.accept(token))
        for row, token in zip(rows, tokens, strict=True)
        if token is not None
    ]
