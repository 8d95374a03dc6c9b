"""The generic runner: transformers' own forward pass, for any architecture it can decode."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from models.decoding import attention, probe
from models.decoding.kv import SlotCache, Window
from models.decoding.lora import Factors, LoraSwitch
from models.decoding.runner import Segment
from models.decoding.sampler import sample
from models.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from models.decoding.lora import Adapter
    from models.types import Token


class TransformersRunner:
    """One pass over all rows that bring one token, and one over each longer prompt chunk.

    Args:
        model: A causal language model of transformers; it is changed, and ours from now on.
        cache: The KV memory, in the model's number format.
        threads: torch threads of a step.

    Raises:
        EngineError: The model cannot be decoded exactly in this way.
    """

    def __init__(self, model: Any, cache: SlotCache, *, threads: int) -> None:
        self.cache = cache
        self.threads = threads
        self._model = model
        reason = probe.why_unsupported(model, cache.context)
        if reason is not None:
            raise _refusal(model, reason)
        try:
            logits, rows_apart = probe.reference(model)
            attention.register()
            model.set_attn_implementation(attention.NAME)
            self._switch = LoraSwitch(model, rows_apart)
            agrees = self._rehearse(logits)
        except Exception as error:
            raise _refusal(model, str(error)) from error
        if not agrees:
            raise _refusal(model, "its output changes when rows are decoded side by side")

    @property
    def torch_threads(self) -> int:
        """Threads of torch that the thread which calls ``run`` should have: all of a step's."""
        return self.threads

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
            logits = self._forward(batch, self.cache)
            draws = {row: s.draw for row, s in enumerate(batch) if s.draw is not None}
            drawn = sample(logits[list(draws)], list(draws.values())) if draws else []
            by_row = dict(zip(draws, drawn, strict=True))
            tokens += [by_row.get(row) for row in range(len(batch))]
        return tokens

    @torch.inference_mode()
    def _rehearse(self, theirs: torch.Tensor) -> bool:
        """Decode two rows side by side; whether this gives what ``probe.reference`` gave."""
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
        return not (probe.differ(ours[0], theirs[0, 5]) or probe.differ(ours[1], theirs[1, 3]))

    def _forward(self, batch: Sequence[Segment], cache: SlotCache) -> torch.Tensor:
        """Run the model; returns the logits ``[rows, V]`` after each segment's last id."""
        device, new = self._model.device, len(batch[0].ids)
        starts = torch.tensor([[s.start] for s in batch], device=device)
        positions = starts + torch.arange(new, device=device)
        length = max(s.start for s in batch) + new
        cache.window = Window(first=batch[0].slot, positions=positions, length=length)
        self._switch.set_rows([s.version for s in batch])
        logits: torch.Tensor = self._model(
            input_ids=torch.tensor([list(s.ids) for s in batch], device=device),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits
        return logits[:, -1]


def _passes(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Split a step into forward passes, whose rows lie side by side and bring equally much."""
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
