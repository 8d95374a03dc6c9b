"""A preallocated KV cache with one slot for each row, as a transformers ``Cache``."""

from __future__ import annotations

import math
import mmap
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from models.errors import EngineError

if TYPE_CHECKING:
    from models.decoding.scheduler import KvCopy

_ATTENTION_KINDS = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass(frozen=True, slots=True)
class CacheSlice:
    """The part of the KV cache that the next forward pass reads and writes.

    Attributes:
        first: The first slot of the pass.
        positions: The write position of each new token, ``[rows, new tokens]``.
        length: The number of positions that each row reads.
    """

    first: int
    positions: torch.Tensor
    length: int


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped here
    """The keys and values of one layer, ``[slots, KV heads, context, head size]``."""

    def __init__(self, owner: SlotCache, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        # A reference cycle would keep the memory until the garbage collector runs.
        self._owner = cast("SlotCache", weakref.proxy(owner))
        self.keys = keys
        self.values = values
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing, because the memory was allocated with the cache."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the keys and values of the new tokens; return those that the rows read.

        Args:
            key_states: ``[rows, KV heads, new tokens, head size]``.
            value_states: The same shape.

        Returns:
            The keys and the values, views of ``[rows, KV heads, length, head size]``.

        Raises:
            EngineError: The KV heads or the head size differ from those of the cache.
        """
        self._check(key_states)
        self._check(value_states)
        current = self._owner.current
        rows, new = key_states.shape[0], key_states.shape[2]
        keys = self.keys[current.first : current.first + rows]
        values = self.values[current.first : current.first + rows]
        if new == 1:
            index = torch.arange(rows, device=keys.device)
            keys[index, :, current.positions[:, 0]] = key_states[:, :, 0]
            values[index, :, current.positions[:, 0]] = value_states[:, :, 0]
        else:
            start = current.length - new
            keys[:, :, start : current.length] = key_states
            values[:, :, start : current.length] = value_states
        return keys[:, :, : current.length], values[:, :, : current.length]

    def _check(self, states: torch.Tensor) -> None:
        """Raise unless the shape matches; an assignment would broadcast silently."""
        found, held = (states.shape[1], states.shape[3]), (self.keys.shape[1], self.keys.shape[3])
        if found != held:
            raise _not_uniform(f"a layer has KV heads and head size {found} instead of {held}")

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - an override
        """Return the number of positions that the pass reads, and offset 0."""
        return self._owner.current.length, 0

    def get_seq_length(self) -> int:
        """Return the number of positions before the new tokens."""
        current = self._owner.current
        return current.length - current.positions.shape[1]

    def get_max_length(self) -> int:
        """Return the context length."""
        return self._owner.context


class SlotCache(Cache):  # type: ignore[misc]  # transformers is untyped here
    """The KV cache of all layers; ``TransformersRunner`` sets ``current`` before each pass.

    Attributes:
        keys: ``[layers, slots, KV heads, context, head size]``, contiguous.
        values: The same shape.
        context: The positions of a slot.
        bytes_per_token: The bytes of one position of one slot, over all layers.
    """

    def __init__(
        self,
        *,
        layers: int,
        slots: int,
        context: int,
        kv_heads: int,
        head_size: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        shape = (2, layers, slots, kv_heads, context, head_size)
        self._memory = _zeros(shape, dtype, torch.device(device))
        self.keys, self.values = self._memory[0], self._memory[1]
        self.context = context
        self.bytes_per_token = 2 * layers * kv_heads * head_size * dtype.itemsize
        super().__init__(
            layers=[SlotLayer(self, self.keys[n], self.values[n]) for n in range(layers)]
        )
        self._current: CacheSlice | None = None

    @classmethod
    def for_model(
        cls,
        config: Any,
        *,
        slots: int,
        context: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> Self:
        """Return a cache with the layers and heads of a model.

        Args:
            config: The transformers configuration of the model.
            slots: The number of rows that decode at once.
            context: The positions of a slot.
            dtype: The model's number format, used for keys and values.
            device: The model's device.

        Raises:
            EngineError: The layers differ in the shape of their keys and values.
        """
        text = config.get_text_config(decoder=True)
        reason = _why_not_uniform(text)
        if reason is not None:
            raise _not_uniform(reason)
        return cls(
            layers=text.num_hidden_layers,
            slots=slots,
            context=context,
            kv_heads=_kv_heads(text),
            head_size=getattr(text, "head_dim", None)
            or text.hidden_size // text.num_attention_heads,
            dtype=dtype,
            device=device,
        )

    @property
    def current(self) -> CacheSlice:
        """The slice that the pass in progress reads and writes."""
        if self._current is None:
            raise EngineError("No cache slice was set before the forward pass.")
        return self._current

    @current.setter
    def current(self, current: CacheSlice) -> None:
        self._current = current

    def get_query_offset(self, layer_idx: int = 0) -> torch.Tensor:  # noqa: ARG002 - an override
        """Return the position of each row's first new token, ``[rows, 1, 1, 1]``, for masks."""
        return self.current.positions[:, :1, None, None]

    def move(self, move: KvCopy) -> None:
        """Copy the written positions of one slot to another."""
        self.write_block(move.target, 0, self._at(move.source, 0, move.length))

    def read_block(self, slot: int, start: int, length: int) -> torch.Tensor:
        """Return a copy of positions ``start .. start+length-1`` of a slot.

        Returns:
            ``[2, layers, KV heads, length, head size]``: keys, then values.
        """
        return self._at(slot, start, length).clone(memory_format=torch.contiguous_format)

    def write_block(self, slot: int, start: int, block: torch.Tensor) -> None:
        """Write a block that ``read_block`` returned to positions ``start ..`` of a slot."""
        self._at(slot, start, block.shape[3]).copy_(block)

    def _at(self, slot: int, start: int, length: int) -> torch.Tensor:
        return self._memory[:, :, slot, :, start : start + length]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Allocate zeros: a masked position still enters the products, and 0 · NaN is NaN."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # Anonymous pages are zero and take no memory until they are written. torch.zeros would write
    # all of them. A huge page spans several slots, so its first write would take memory for all.
    raw = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a system without huge pages has none to avoid
            raw.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(raw, dtype=dtype).view(shape)


def _kv_heads(config: Any) -> int:
    """Return the number of KV heads, from the configuration keys of Falcon and GPT-BigCode too."""
    if getattr(config, "multi_query", False) and not getattr(
        config, "new_decoder_architecture", False
    ):
        return 1
    return getattr(config, "num_key_value_heads", None) or int(config.num_attention_heads)


def _why_not_uniform(config: Any) -> str | None:
    """Return why layers differ in the shape of keys and values; None if they do not."""
    kinds = {*(getattr(config, "layer_types", None) or ())} - _ATTENTION_KINDS
    if kinds:
        return f"it has layers of the kinds {sorted(kinds)}"
    if getattr(config, "num_kv_shared_layers", None):
        return "some of its layers share their keys and values"
    if getattr(config, "kv_lora_rank", None):
        return "its keys and values differ in size"
    if config.is_heterogeneous:
        return "its layers differ in shape"
    return None


def _not_uniform(reason: str) -> EngineError:
    return EngineError(
        "The engine serves models whose layers all hold keys and values of one shape, "
        f"but {reason}: set THUMBLOOP_BASE_MODEL to another model."
    )
