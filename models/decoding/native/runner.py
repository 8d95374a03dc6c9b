"""Runs a step with the compiled forward pass, in one call for rows of all versions."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.decoding.native import abi
from models.decoding.native.weights import (
    NativeAdapter,
    NativeWeights,
    low_columns,
    pack_adapter,
)
from models.decoding.sampler import sample
from models.errors import EngineError
from models.native.build import Program, library
from models.types import Token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.decoding.kv import SlotCache
    from models.decoding.lora import Adapter
    from models.decoding.runner import Segment
    from models.decoding.sampler import Draw


STEP = Program(
    "step",
    Path(__file__).parent / "step.cpp",
    headers=("attend.h", "draw.h", "threads.h"),
    shared=("products.h", "vectors.h"),
)


class NativeRunner:
    """Runs the compiled forward pass over packed weights.

    Args:
        model: A transformers model for which ``models.native.llama.unsupported`` returns None.
        cache: The KV cache, in the model's number format.
        threads: The most threads of a step.
        build_dir: The folder of compiled libraries.

    Attributes:
        threads: The threads of the next step.
        torch_threads: The torch threads of a step: 1, because torch does too little to divide.
    """

    torch_threads = 1

    def __init__(self, model: Any, cache: SlotCache, *, threads: int, build_dir: Path) -> None:
        self.cache = cache
        self.threads = threads
        self._weights = NativeWeights(model, cache)
        self._library = abi.open_library(library(build_dir, STEP))
        self._runtime = self._library.thumbloop_create(threads)
        if not self._runtime:
            raise EngineError("There is no memory for the native runner.")
        vocabulary = self._weights.vocabulary
        self._stride = vocabulary + -vocabulary % abi.BLOCK
        self._padded_logits = torch.empty(0, self._stride)

    def __del__(self) -> None:
        """End the threads."""
        runtime = getattr(self, "_runtime", None)
        if runtime:
            self._library.thumbloop_destroy(runtime)

    @property
    def logits(self) -> torch.Tensor:
        """The logits of the last step, one row for each drawn token, sorted by version."""
        return self._padded_logits[:, : self._weights.vocabulary]

    def prepare(self, adapter: Adapter) -> NativeAdapter:
        """Pack an adapter; may run while another thread runs a step.

        Raises:
            AdapterError: The adapter does not fit the model.
        """
        return pack_adapter(adapter, self._weights)

    def run(
        self, segments: Sequence[Segment], adapters: Mapping[str, NativeAdapter]
    ) -> list[Token | None]:
        """Run one step (see ``Runner.run``).

        Raises:
            EngineError: The logits are not numbers, or there is no memory for the step.
        """
        by_version = sorted(segments, key=lambda segment: segment.version or "")
        drawing = [segment for segment in by_version if segment.draw is not None]
        ids, logprobs = self._step(by_version, adapters)
        tokens = self._tokens(drawing, ids, logprobs)
        return [tokens.get(id(segment)) for segment in segments]

    def _step(
        self, segments: Sequence[Segment], adapters: Mapping[str, NativeAdapter]
    ) -> tuple[list[int], list[float]]:
        lengths = np.array([len(segment.ids) for segment in segments])
        ends = lengths.cumsum()
        total = int(ends[-1])
        ids = np.fromiter((i for s in segments for i in s.ids), np.int32, total)
        slots = np.repeat(np.array([s.slot for s in segments], np.int32), lengths)
        starts = np.array([s.start for s in segments])
        positions = np.arange(total) + np.repeat(starts - ends + lengths, lengths)
        positions = positions.astype(np.int32)
        draws = [s.draw for s in segments if s.draw is not None]
        wanted = [s.draw is not None for s in segments]
        last = (ends[wanted] - 1).astype(np.int32)
        temperatures = np.array([d.temperature for d in draws], np.float32)
        uniforms = np.array([d.uniform for d in draws], np.float64)
        if len(draws) > len(self._padded_logits):
            self._padded_logits = torch.empty(len(draws), self._stride)
        drawn, logprobs = np.empty(len(draws), np.int32), np.empty(len(draws), np.float32)
        groups, rank = _groups(segments, ends, adapters)
        step = abi.NativeStep(
            tokens=total,
            groups=len(groups),
            outputs=len(draws),
            ids=ids.ctypes.data,
            slots=slots.ctypes.data,
            positions=positions.ctypes.data,
            group=groups,
            last=last.ctypes.data,
            temperatures=temperatures.ctypes.data,
            uniforms=uniforms.ctypes.data,
            logits=self._padded_logits.data_ptr(),
            logits_stride=self._stride,
            low_columns=low_columns(rank),
            drawn=drawn.ctypes.data,
            logprobs=logprobs.ctypes.data,
        )
        failed = self._library.thumbloop_step(
            self._runtime,
            ctypes.byref(self._weights.struct),
            ctypes.byref(step),
            self._weights.dtype == torch.bfloat16,
            self.threads,
        )
        if failed:
            raise EngineError("There is no memory for this step: lower THUMBLOOP_PREFILL_CHUNK.")
        if (drawn < 0).any():
            raise EngineError("The model's output is not a number: are its weights broken?")
        return drawn.tolist(), logprobs.tolist()

    def _tokens(
        self, drawing: Sequence[Segment], ids: Sequence[int], logprobs: Sequence[float]
    ) -> dict[int, Token]:
        """Return the token of each segment, by the segment's ``id()``."""
        tokens = {
            id(segment): Token(id=i, logprob=logprob)
            for segment, i, logprob in zip(drawing, ids, logprobs, strict=True)
        }
        torch_sampled = [
            (row, s) for row, s in enumerate(drawing) if s.draw and _needs_torch_sampling(s.draw)
        ]
        if torch_sampled:
            rows = self.logits[[row for row, _ in torch_sampled]]
            chosen = sample(rows, [s.draw for _, s in torch_sampled if s.draw])
            tokens |= {id(s): token for (_, s), token in zip(torch_sampled, chosen, strict=True)}
        return tokens


def _needs_torch_sampling(draw: Draw) -> bool:
    """Return whether a draw needs more than a temperature; the step can do no more."""
    return not draw.is_of_policy or draw.top_logprobs > 0


def _groups(
    segments: Sequence[Segment], ends: np.ndarray, adapters: Mapping[str, NativeAdapter]
) -> tuple[ctypes.Array[abi.NativeGroup], int]:
    """Return the groups of adjacent tokens with one adapter, and the largest rank of them."""
    versions = [segment.version for segment in segments]
    firsts = [i for i, v in enumerate(versions) if i == 0 or v != versions[i - 1]]
    groups, rank = (abi.NativeGroup * len(firsts))(), 0
    for group, first, beyond in zip(groups, firsts, [*firsts[1:], len(segments)], strict=True):
        version = versions[first]
        group.first = int(ends[first]) - len(segments[first].ids)
        group.count = int(ends[beyond - 1]) - group.first
        if version is not None:
            group.adapter = ctypes.pointer(adapters[version].struct)
            rank = max(rank, adapters[version].rank)
    return groups, rank
