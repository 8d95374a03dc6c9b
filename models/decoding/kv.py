"""Preallocated KV memory, one slot a row, behind transformers' own ``Cache`` interface."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from models.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.decoding.scheduler import Move


@dataclass(frozen=True, slots=True)
class Window:
    """Where the next forward pass writes, and how far it reads.

    Attributes:
        first: The first slot of the pass.
        positions: Write position of each new token, ``[rows, new tokens]``.
        length: How many positions each row reads.
    """

    first: int
    positions: torch.Tensor
    length: int


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped here
    """One layer's keys and values, ``[slots, KV heads, context, head size]``."""

    def __init__(self, owner: SlotCache, slots: int, context: int) -> None:
        super().__init__()
        self._owner = owner
        self._slots = slots
        self._context = context

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take the memory once the head count and size are known."""
        self.keys = self._allocate(key_states)
        self.values = self._allocate(value_states)
        self.is_initialized = True

    def _allocate(self, like: torch.Tensor) -> torch.Tensor:
        """Take zeros, because a masked position still enters the products, and 0 · NaN is NaN."""
        shape = (self._slots, like.shape[1], self._context, like.shape[3])
        if like.device.type != "cpu":
            return like.new_zeros(shape)
        # numpy asks the system for zeroed pages, which cost nothing until they are written to;
        # torch writes the zeros itself and so takes all the memory at once.
        raw = np.zeros(like.element_size() * math.prod(shape), dtype=np.uint8)
        return torch.from_numpy(raw).view(like.dtype).view(shape)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new tokens of every row; return what the rows read.

        Args:
            key_states: ``[rows, KV heads, new tokens, head size]``.
            value_states: The same shape.

        Returns:
            Keys and values, views of ``[rows, KV heads, length, head size]``.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        window = self._owner.window
        rows, new = key_states.shape[0], key_states.shape[2]
        keys = self.keys[window.first : window.first + rows]
        values = self.values[window.first : window.first + rows]
        if new == 1:
            index = torch.arange(rows, device=keys.device)
            keys[index, :, window.positions[:, 0]] = key_states[:, :, 0]
            values[index, :, window.positions[:, 0]] = value_states[:, :, 0]
        else:
            start = window.length - new
            keys[:, :, start : window.length] = key_states
            values[:, :, start : window.length] = value_states
        return keys[:, :, : window.length], values[:, :, : window.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - the interface's
        """Return the length that the window reads, and offset 0."""
        return self._owner.window.length, 0

    def get_seq_length(self) -> int:
        """Return the positions that the window reads before the new tokens."""
        window = self._owner.window
        return window.length - window.positions.shape[1]

    def get_max_length(self) -> int:
        """Return the context length."""
        return self._context


class SlotCache(Cache):  # type: ignore[misc]  # transformers is untyped here
    """All layers' slots; set ``window`` before each forward pass."""

    def __init__(self, *, layers: int, slots: int, context: int) -> None:
        super().__init__(layers=[SlotLayer(self, slots, context) for _ in range(layers)])
        self._window: Window | None = None

    @property
    def window(self) -> Window:
        """What the pass in progress reads and writes."""
        if self._window is None:
            raise EngineError("No window was set before the forward pass.")
        return self._window

    @window.setter
    def window(self, window: Window) -> None:
        self._window = window

    def move(self, moves: Sequence[Move], length: int) -> None:
        """Copy the first ``length`` positions of whole slots."""
        for move in moves:
            for layer in self.layers:
                if layer.is_initialized:
                    for memory in (layer.keys, layer.values):
                        memory[move.target, :, :length] = memory[move.source, :, :length]
