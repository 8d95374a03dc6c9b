"""The generic runner: the forward pass of transformers, for architectures it decodes exactly."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from models.decoding import attention, probe
from models.decoding.kv import CacheSlice, SlotCache
from models.decoding.lora import BatchedLora, Factors
from models.decoding.runner import Segment
from models.decoding.sampler import sample
from models.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from models.decoding.lora import Adapter
    from models.types import Token


class TransformersRunner:
    """Runs one pass over all rows with one new token, then one pass over each longer chunk.

    Args:
        model: A causal language model of transformers, which the runner owns and changes.
        cache: The KV cache, in the model's number format.
        threads: The torch threads of a step.

    Raises:
        EngineError: The model cannot be decoded exactly by this runner.
    """

    def __init__(self, model: Any, cache: SlotCache, *, threads: int) -> None:
        self.cache = cache
        self.threads = threads
        self._model = model
        reason = probe.unsupported_reason(model, cache.context)
        if reason is not None:
            raise _refusal(model, reason)
        try:
            logits, row_wise = probe.run_reference(model)
            attention.register()
            model.set_attn_implementation(attention.NAME)
            self._lora = BatchedLora(model, row_wise)
            agrees = self._matches_reference(logits)
        except Exception as error:
            raise _refusal(model, str(error)) from error
        if not agrees:
            raise _refusal(model, "its output changes when rows are decoded side by side")

    @property
    def torch_threads(self) -> int:
        """The number of torch threads to set on the thread that calls ``run``."""
        return self.threads

    def prepare(self, adapter: Adapter) -> Adapter:
        """Check that an adapter fits the model, and convert it to the model's number format.

        Raises:
            AdapterError: The adapter does not fit.
        """
        self._lora.check(adapter)
        device, dtype = self._model.device, self._model.dtype
        return {
            name: Factors(a=pair.a.to(device, dtype), b=pair.b.to(device, dtype))
            for name, pair in adapter.items()
        }

    @torch.inference_mode()
    def run(
        self, segments: Sequence[Segment], adapters: Mapping[str, Adapter]
    ) -> list[Token | None]:
        """Write the segments' keys and values and draw the next tokens (see ``Runner.run``)."""
        self._lora.select([s.version for s in segments], adapters)
        tokens: list[Token | None] = []
        for batch in _passes(segments):
            logits = self._forward(batch, self.cache)
            draws = {row: s.draw for row, s in enumerate(batch) if s.draw is not None}
            drawn = sample(logits[list(draws)], list(draws.values())) if draws else []
            by_row = dict(zip(draws, drawn, strict=True))
            tokens += [by_row.get(row) for row in range(len(batch))]
        return tokens

    @torch.inference_mode()
    def _matches_reference(self, theirs: torch.Tensor) -> bool:
        """Decode two rows in one batch; return whether the logits match the reference."""
        cache = SlotCache.for_model(
            self._model.config,
            slots=probe.ROWS,
            context=probe.TOKENS,
            dtype=self._model.dtype,
            device=self._model.device,
        )
        first, second = probe.probe_ids(self._model).tolist()
        for slot, start, ids in ((0, 0, first[:3]), (0, 3, first[3:5]), (1, 0, second[:3])):
            self._forward([Segment(slot, start, ids, None, None)], cache)
        last = [Segment(0, 5, first[5:], None, None), Segment(1, 3, second[3:4], None, None)]
        ours = self._forward(last, cache)
        return not (
            probe.logits_differ(ours[0], theirs[0, 5]) or probe.logits_differ(ours[1], theirs[1, 3])
        )

    def _forward(self, batch: Sequence[Segment], cache: SlotCache) -> torch.Tensor:
        """Run the model; return the logits ``[rows, V]`` after the last id of each segment."""
        device, new = self._model.device, len(batch[0].ids)
        starts = torch.tensor([[s.start] for s in batch], device=device)
        positions = starts + torch.arange(new, device=device)
        length = max(s.start for s in batch) + new
        cache.current = CacheSlice(first=batch[0].slot, positions=positions, length=length)
        self._lora.assign_rows([s.version for s in batch])
        logits: torch.Tensor = self._model(
            input_ids=torch.tensor([list(s.ids) for s in batch], device=device),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[:, -1]


def _passes(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Split a step into forward passes over adjacent slots with equally many new tokens."""
    for single, group in groupby(segments, key=lambda s: len(s.ids) == 1):
        if single:
            yield list(group)
        else:
            yield from ([segment] for segment in group)


def _refusal(model: Any, reason: str) -> EngineError:
    return EngineError(
        f"The engine cannot serve {type(model).__name__} ({reason}): set THUMBLOOP_BASE_MODEL to "
        "another model."
    )
