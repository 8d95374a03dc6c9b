"""The decoding engine's core: one ``step`` decodes a token of every row and prefills more prompts.

Synchronous and single-threaded; ``models.backends.decode_thread`` gives it a thread.
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
from models.errors import EngineError, PromptTooLongError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.base.loading import Base
    from models.decoding.bank import AdapterBank
    from models.decoding.runner import Runner
    from models.decoding.scheduler import StepPlan
    from models.settings import ModelSettings
    from models.types import FinishReason, GenerationRequest, Token


# Small, so that a template's own system prompt, 25 tokens of our base's, is worth something.
_BLOCK_TOKENS = 8
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Gain:
    """A token that a row gained in one step; ``finish_reason`` is set with its last one."""

    row: Row
    token: Token
    finish_reason: FinishReason | None


class Engine:
    """Decodes many replies at once, of several policy versions, over one frozen base."""

    def __init__(
        self, base: Base, runner: Runner, bank: AdapterBank, settings: ModelSettings
    ) -> None:
        self.runner = runner
        self._settings = settings
        self.context_length = runner.cache.context
        self._end_ids = base.end_ids
        self._bank = bank
        line: WaitingQueue[Row] = WaitingQueue(
            max_rows=settings.max_queue, max_rows_per_user=settings.max_queue_per_user
        )
        slots = runner.cache.keys.shape[1]
        self.scheduler: Scheduler[Row] = Scheduler(
            line, max_rows=slots, prefill_chunk=settings.prefill_chunk
        )
        self._prefixes: PrefixCache[torch.Tensor] = PrefixCache(
            capacity_bytes=settings.prefix_cache_mib * _MIB,
            block_bytes=runner.cache.bytes_per_token * _BLOCK_TOKENS,
            block_tokens=_BLOCK_TOKENS,
        )
        self.tokens_total = 0
        self.steps_total = 0
        self.reused_tokens_total = 0

    def make_room(self, *, learning: bool) -> None:
        """Leave cores to a learner, or take them back; from the next step on, from any thread.

        With fewer threads a step takes fewer prompt tokens too, so that it does not last longer.
        """
        threads = self._settings.step_threads(learning=learning)
        self.runner.threads = threads
        chunk = self._settings.prefill_chunk * threads // self._settings.step_threads()
        self.scheduler.prefill_chunk = max(1, chunk)

    def make_row(self, request: GenerationRequest) -> Row:
        """Check a request against the context and give it its state.

        Raises:
            PromptTooLongError: Prompt plus ``max_tokens`` exceed the context.
            EngineError: The prompt is empty.
        """
        if not request.prompt_ids:
            raise EngineError("The prompt is empty: send at least one token.")
        prompt, most = len(request.prompt_ids), request.sampling.max_tokens
        if prompt + most > self.context_length:
            raise PromptTooLongError(prompt, most, self.context_length)
        return Row(request, self._end_ids)

    @torch.inference_mode()
    def cancel(self, row_id: str) -> None:
        """Take a row out wherever it is; its slot is free for the next step."""
        self._leave(row_id)

    @torch.inference_mode()
    def step(self) -> list[Gain]:
        """Advance every row; return what each one gained, finished rows taken out."""
        # 1. Which rows decode, which prompt chunks are prefilled, and where.
        for version in self._bank.take_freed():
            self._prefixes.forget(version)
        plan = self.scheduler.plan(self._restore)
        segments = _segments(plan)
        if not segments:
            return []
        # 2. One pass of the model over all of it.
        tokens = self.runner.run(segments, self._bank.adapters)
        # 3. Each row takes its token; rows whose prompt is complete decode from now on.
        self.scheduler.advance(plan)
        gained = _accept(plan, tokens)
        # 4. Prompts that are complete can be reused, and finished rows give their slots back.
        for chunk in plan.chunks:
            if chunk.is_last:
                self._store(chunk.row.id)
        for gain in gained:
            if gain.finish_reason is not None:
                self._leave(gain.row.id)
        self.steps_total += 1
        self.tokens_total += len(gained)
        return gained

    def drop(self) -> tuple[Row, ...]:
        """Take every row out after a failed step; return them."""
        return self.scheduler.clear()

    def _restore(self, row: Row, slot: int) -> int:
        """Bring what is known of a new row's prompt into its slot; returns how many tokens."""
        version, ids = row.request.version, row.request.prompt_ids
        blocks, size = self._prefixes.match(version, ids, len(ids) - 1), self._prefixes.block_tokens
        for number, block in enumerate(blocks):
            self.runner.cache.write_block(slot, number * size, block)
        reused = len(blocks) * size
        self.reused_tokens_total += reused
        return reused

    def _store(self, row_id: str) -> None:
        """Keep what is written of a row for others that begin alike."""
        place = self.scheduler.find(row_id)
        if place is None:
            return
        cache, size = self.runner.cache, self._prefixes.block_tokens
        self._prefixes.store(
            place.row.request.version,
            place.row.ids[: place.written],
            lambda start: cache.read_block(place.slot, start, size),
        )

    def _leave(self, row_id: str) -> None:
        self._store(row_id)
        for move in self.scheduler.remove(row_id):
            self.runner.cache.move(move)


def _segments(plan: StepPlan[Row]) -> list[Segment]:
    """Return what the plan means for the model, the rows' random numbers drawn."""
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


def _accept(plan: StepPlan[Row], tokens: Sequence[Token | None]) -> list[Gain]:
    rows = [*plan.decoding, *(chunk.row for chunk in plan.chunks)]
    return [
        Gain(row, token, row.accept(token))
        for row, token in zip(rows, tokens, strict=True)
        if token is not None
    ]
