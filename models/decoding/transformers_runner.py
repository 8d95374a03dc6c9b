"""The generic runner: transformers' own forward pass, for any architecture it can decode."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from models.decoding import attention
from models.decoding.kv import SlotCache, Window
from models.decoding.lora import Factors, LoraSwitch
from models.decoding.sampler import sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from models.decoding.lora import Adapter
    from models.decoding.runner import Segment
    from models.types import Token


class TransformersRunner:
    """One pass over all rows that bring one token, and one over each longer prompt chunk.

    Args:
        model: A causal language model of transformers; it is changed, and ours from now on.
        cache: The KV memory, in the model's number format.
    """

    def __init__(self, model: Any, cache: OffsetCache) -> None:
        attention.register()
        self.cache: SlotCache = cache
        self._model = model
        self._model.set_attn_implementation(attention.NAME)
        self._switch = LoraSwitch(model)

    def prepare(self, adapter: Adapter) -> Adapter:
        """Check that the adapter fits the model, and bring it into the model's number format.

        Raises:
            AdapterError: It does not fit.
        """
        self._switch.check(adapter)
        device, dtype = self._model.device, self._model.dtype
        return {
            name: Factors(a=pair.a.to(device, dtype), b=pair.b.to(device, dtype))
            for name, pair in adapter.items()
        }

    @torch.inference_mode()
    def run(
        self, segments: Sequence[Segment], adapters: Mapping[str, Adapter]
    ) -> list[Token | None]:
        """Write the segments' tokens to their slots and draw the next ones (see the protocol)."""
        self._switch.point([s.version for s in segments], adapters)
        tokens: list[Token | None] = []
        for batch in _passes(segments):
            logits = self._forward(batch)
            draws = {row: s.draw for row, s in enumerate(batch) if s.draw is not None}
            drawn = sample(logits[list(draws)], list(draws.values())) if draws else []
            by_row = dict(zip(draws, drawn, strict=True))
            tokens += [by_row.get(row) for row in range(len(batch))]
        return tokens

    def _forward(self, batch: Sequence[Segment]) -> torch.Tensor:
        """Run the model; returns the logits ``[rows, V]`` after each segment's last id."""
        device, new = self._model.device, len(batch[0].ids)
        starts = torch.tensor([[s.start] for s in batch], device=device)
        positions = starts + torch.arange(new, device=device)
        length = max(s.start for s in batch) + new
        self.cache.window = Window(first=batch[0].slot, positions=positions, length=length)
        self._switch.set_rows([s.version for s in batch])
        logits: torch.Tensor = self._model(
            input_ids=torch.tensor([list(s.ids) for s in batch], device=device),
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[:, -1]


class OffsetCache(SlotCache):
    """Tells the model's masks where each row's new tokens start."""

    def get_query_offset(self, layer_idx: int = 0) -> torch.Tensor:  # noqa: ARG002 - the interface's
        """Return the position of each row's first new token, ``[rows, 1, 1, 1]``."""
        return self.window.positions[:, :1, None, None]


def _passes(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Split a step into forward passes, whose rows lie side by side and bring equally much."""
    for single, group in groupby(segments, key=lambda s: len(s.ids) == 1):
        if single:
            yield list(group)
        else:
            yield from ([segment] for segment in group)
