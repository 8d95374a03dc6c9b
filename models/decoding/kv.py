"""Preallocated KV memory, one slot a row, behind transformers' own ``Cache`` interface."""

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
    """One layer's view of the keys and values, ``[slots, KV heads, context, head size]``."""

    def __init__(self, owner: SlotCache, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        # a cycle would keep the memory until it is collected
        self._owner = cast("SlotCache", weakref.proxy(owner))
        self.keys = keys
        self.values = values
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing: the memory was taken when the cache was made."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new tokens of every row; return what the rows read.

        Args:
            key_states: ``[rows, KV heads, new tokens, head size]``.
            value_states: The same shape.

        Returns:
            Keys and values, views of ``[rows, KV heads, length, head size]``.

        Raises:
            EngineError: The layer's KV heads or head size are not those of the memory.
        """
        self._check(key_states)
        self._check(value_states)
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

    def _check(self, states: torch.Tensor) -> None:
        """Refuse what assignment would otherwise broadcast."""
        found, held = (states.shape[1], states.shape[3]), (self.keys.shape[1], self.keys.shape[3])
        if found != held:
            raise _not_uniform(f"a layer has KV heads and head size {found} instead of {held}")

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - the interface's
        """Return the length that the window reads, and offset 0."""
        return self._owner.window.length, 0

    def get_seq_length(self) -> int:
        """Return the positions that the window reads before the new tokens."""
        window = self._owner.window
        return window.length - window.positions.shape[1]

    def get_max_length(self) -> int:
        """Return the context length."""
        return self._owner.context


class SlotCache(Cache):  # type: ignore[misc]  # transformers is untyped here
    """All layers' slots; a runner on transformers sets ``window`` before each forward pass.

    Attributes:
        keys: ``[layers, slots, KV heads, context, head size]``, contiguous.
        values: The same shape.
        context: Positions of a slot.
        bytes_per_token: What one position of one slot takes, keys and values of all layers.
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
        self._window: Window | None = None

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
        """Make the memory that a model needs.

        Args:
            config: Its transformers configuration.
            slots: Rows that it decodes at once.
            context: Positions of a slot.
            dtype: Of keys and values: the model's.
            device: Where the model is.

        Raises:
            EngineError: Its layers do not all hold keys and values of the same shape.
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
    def window(self) -> Window:
        """What the pass in progress reads and writes."""
        if self._window is None:
            raise EngineError("No window was set before the forward pass.")
        return self._window

    @window.setter
    def window(self, window: Window) -> None:
        self._window = window

    def get_query_offset(self, layer_idx: int = 0) -> torch.Tensor:  # noqa: ARG002 - the interface's
        """Return the position of each row's first new token, ``[rows, 1, 1, 1]``, for masks."""
        return self.window.positions[:, :1, None, None]

    def move(self, move: KvCopy) -> None:
        """Copy what is written of one slot to another."""
        self.write_block(move.target, 0, self._at(move.source, 0, move.length))

    def read_block(self, slot: int, start: int, length: int) -> torch.Tensor:
        """Return a copy of positions ``start .. start+length-1`` of a slot.

        Returns:
            ``[2, layers, KV heads, length, head size]``: keys, then values.
        """
        return self._at(slot, start, length).clone(memory_format=torch.contiguous_format)

    def write_block(self, slot: int, start: int, block: torch.Tensor) -> None:
        """Write what ``read_block`` returned to positions ``start ..`` of a slot."""
        self._at(slot, start, block.shape[3]).copy_(block)

    def _at(self, slot: int, start: int, length: int) -> torch.Tensor:
        return self._memory[:, :, slot, :, start : start + length]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Take zeros, because a masked position still enters the products, and 0 · NaN is NaN."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    # Pages fresh from the system are zero and cost nothing until they are written to; torch would
    # write the zeros itself and so take all the memory at once, and so would a huge page, which
    # spans the slots of several rows, at its first position.
    raw = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a system without huge pages has none to avoid
            raw.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(raw, dtype=dtype).view(shape)


def _kv_heads(config: Any) -> int:
    """Read how many heads a layer holds; Falcon and GPT-BigCode say it in ways of their own."""
    if getattr(config, "multi_query", False) and not getattr(
        config, "new_decoder_architecture", False
    ):
        return 1
    return getattr(config, "num_key_value_heads", None) or int(config.num_attention_heads)


def _why_not_uniform(config: Any) -> str | None:
    """Return what tells that layers differ in what they hold; None where nothing does."""
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
