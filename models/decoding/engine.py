"""The decoding engine's core: one ``step`` prefills a chunk and decodes one token of every row.

Synchronous and single-threaded; ``models.backends.local`` gives it a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.decoding import attention
from models.decoding.kv import SlotCache, Window
from models.decoding.lora import LoraSwitch
from models.decoding.row import Row
from models.decoding.sampler import sample
from models.decoding.scheduler import Scheduler
from models.errors import PromptTooLongError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.base import Base
    from models.decoding.bank import AdapterBank
    from models.decoding.scheduler import Chunk
    from models.settings import ModelSettings
    from models.types import GenerationChunk, GenerationRequest, Token


class Engine:
    """Decodes many replies at once, of several policy versions, over one frozen base."""

    def __init__(self, base: Base, bank: AdapterBank, settings: ModelSettings) -> None:
        attention.register()
        self._model = base.model
        self._model.set_attn_implementation(attention.NAME)
        self._tokenizer = base.tokenizer
        self._end_ids = base.end_ids
        self._device = settings.device
        self._bank = bank
        self.switch = LoraSwitch(self._model)
        self.context_length = min(
            settings.context_length, self._model.config.max_position_embeddings
        )
        self._cache = SlotCache(
            layers=self._model.config.num_hidden_layers,
            slots=settings.max_rows,
            context=self.context_length,
        )
        self.scheduler: Scheduler[Row] = Scheduler(
            max_rows=settings.max_rows,
            max_queue=settings.max_queue,
            prefill_chunk=settings.prefill_chunk,
        )
        self.tokens_total = 0
        self.steps_total = 0

    def make_row(self, request: GenerationRequest) -> Row:
        """Check a request against the context and give it its state.

        Raises:
            PromptTooLongError: Prompt plus ``max_tokens`` exceed the context.
        """
        prompt, most = len(request.prompt_ids), request.sampling.max_tokens
        if prompt + most > self.context_length:
            raise PromptTooLongError(prompt, most, self.context_length)
        return Row(request, self._tokenizer, self._end_ids)

    @torch.inference_mode()
    def cancel(self, row_id: str) -> None:
        """Take a row out wherever it is; its slot is free for the next step."""
        moves = self.scheduler.remove(row_id)
        if moves:
            self._cache.move(moves, self.scheduler.longest)

    @torch.inference_mode()
    def step(self) -> list[tuple[Row, GenerationChunk]]:
        """Advance every row; return what each one gained, finished rows taken out."""
        gained: list[tuple[Row, GenerationChunk]] = []
        chunk = self.scheduler.next_chunk()
        if chunk is not None:
            token = self._prefill(chunk)
            self.scheduler.chunk_done(chunk)
            if token is not None:
                gained.append((chunk.row, chunk.row.accept(token)))
                self._retire(gained)
        rows = self.scheduler.decoding
        if rows:
            tokens = self._decode(rows)
            decoded = [(row, row.accept(t)) for row, t in zip(rows, tokens, strict=True)]
            self._retire(decoded)
            gained += decoded
        self.steps_total += 1
        self.tokens_total += len(gained)
        return gained

    def _prefill(self, chunk: Chunk[Row]) -> Token | None:
        """Write a chunk of a prompt to its slot; return a token drawn after its last position."""
        row, new = chunk.row, chunk.stop - chunk.start
        ids = torch.tensor([row.request.prompt_ids[chunk.start : chunk.stop]], device=self._device)
        positions = torch.arange(chunk.start, chunk.stop, device=self._device)[None]
        columns = torch.arange(chunk.stop, device=self._device)
        mask = self._mask(columns[None, :] > positions[0, :, None])[None, None]
        self._cache.window = Window(first=chunk.slot, positions=positions, length=chunk.stop)
        self.switch.set([row.adapter], self._bank.adapters)
        logits = self._forward(ids, positions, mask.expand(1, 1, new, chunk.stop))
        return sample(logits, [row.draw()])[0] if chunk.is_last else None

    def _decode(self, rows: Sequence[Row]) -> list[Token]:
        """Write each row's newest token to its slot; return the token drawn after it."""
        ids = torch.tensor([[row.generated[-1]] for row in rows], device=self._device)
        positions = torch.tensor([[row.position] for row in rows], device=self._device)
        length = max(row.position for row in rows) + 1
        columns = torch.arange(length, device=self._device)
        mask = self._mask(columns[None, :] > positions)[:, None, None]
        self._cache.window = Window(first=0, positions=positions, length=length)
        self.switch.set([row.adapter for row in rows], self._bank.adapters)
        logits = self._forward(ids, positions, mask)
        return sample(logits, [row.draw() for row in rows])

    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Run the model; returns the logits ``[rows, V]`` after each row's last new token."""
        logits: torch.Tensor = self._model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[:, -1]

    def _mask(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return 0 where a position is seen and -inf where ``hidden`` is True."""
        dtype = self._model.dtype
        return torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, -torch.inf)

    def _retire(self, gained: Sequence[tuple[Row, GenerationChunk]]) -> None:
        for row, chunk in gained:
            if chunk.finish_reason is not None:
                self.cancel(row.id)
