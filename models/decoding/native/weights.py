"""Packs a Llama-like model's weights, and adapters for it, for the compiled step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from models.decoding.native import abi
from models.decoding.native.packing import (
    interleave,
    pad_inputs,
    pad_outputs,
    panels,
    rank_panels,
    stack_parts,
)
from models.errors import AdapterError
from models.native.llama import LANES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.decoding.kv import SlotCache
    from models.decoding.lora import Adapter, Factors

_PARTS = {
    "attention_in": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention_out": ("self_attn.o_proj",),
    "mlp_in": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp_out": ("mlp.down_proj",),
}


class _Buffers:
    """Keeps the tensors alive whose addresses are in C structures."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def keep(self, thing: Any) -> Any:
        self._kept.append(thing)
        return thing

    def at(self, tensor: torch.Tensor) -> int:
        return int(self.keep(tensor.contiguous()).data_ptr())

    def fp32(self, tensor: torch.Tensor | None) -> int | None:
        return None if tensor is None else self.at(tensor.detach().float())

    def linear(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> abi.NativeLinear:
        padded = pad_outputs(weight.detach(), abi.PANEL)
        return abi.NativeLinear(
            weights=self.at(panels(padded, abi.PANEL // LANES)),
            bias=self.fp32(None if bias is None else pad_outputs(bias.detach(), abi.PANEL)),
            panels=padded.shape[0] // abi.PANEL,
            inputs=padded.shape[1],
        )


class NativeWeights:
    """A model's packed weights, with pointers to its KV cache."""

    def __init__(self, model: Any, cache: SlotCache) -> None:
        self.dtype: torch.dtype = model.dtype
        self._memory = _Buffers()
        layers = model.model.layers
        self.shapes = {
            f"model.layers.{number}.{name}": tuple(layer.get_submodule(name).weight.shape)
            for number, layer in enumerate(layers)
            for names in _PARTS.values()
            for name in names
        }
        packed = self._memory.keep((abi.NativeLayer * len(layers))(*map(self._layer, layers)))
        attention = layers[0].self_attn
        rows = [getattr(attention, n).weight.shape[0] for n in ("q_proj", "k_proj")]
        key_column = rows[0] + -rows[0] % abi.PANEL
        cosines, sines = _rotations(model, cache.context)
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self.struct = abi.NativeModel(
            layers=len(layers),
            hidden=model.config.hidden_size,
            heads=model.config.num_attention_heads,
            kv_heads=model.config.num_key_value_heads,
            head_size=attention.head_dim,
            tokens=self.vocabulary,
            context=cache.context,
            key_column=key_column,
            value_column=key_column + rows[1] + -rows[1] % abi.PANEL,
            epsilon=model.config.rms_norm_eps,
            scale=attention.scaling,
            embedding=self._memory.at(model.get_input_embeddings().weight.detach()),
            final_norm=self._memory.fp32(model.model.norm.weight),
            cosines=self._memory.fp32(cosines),
            sines=self._memory.fp32(sines),
            layer=packed,
            head=self._memory.linear(
                model.get_output_embeddings().weight, model.get_output_embeddings().bias
            ),
            keys=cache.keys.data_ptr(),
            values=cache.values.data_ptr(),
            layer_stride=cache.keys.stride(0),
            slot_stride=cache.keys.stride(1),
        )

    def _layer(self, layer: Any) -> abi.NativeLayer:
        attention, mlp, memory = layer.self_attn, layer.mlp, self._memory
        taking = [attention.q_proj, attention.k_proj, attention.v_proj]
        gate, up, down = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        return abi.NativeLayer(
            attention_norm=memory.fp32(layer.input_layernorm.weight),
            mlp_norm=memory.fp32(layer.post_attention_layernorm.weight),
            query_norm=memory.fp32(_weight(attention, "q_norm")),
            key_norm=memory.fp32(_weight(attention, "k_norm")),
            attention_in=memory.linear(
                stack_parts([m.weight for m in taking]),
                None if taking[0].bias is None else stack_parts([m.bias for m in taking]),
            ),
            attention_out=memory.linear(attention.o_proj.weight, attention.o_proj.bias),
            mlp_in=memory.linear(
                interleave(gate.weight, up.weight),
                None if gate.bias is None else interleave(gate.bias, up.bias),
            ),
            mlp_out=memory.linear(pad_inputs(down.weight, LANES), down.bias),
        )


@dataclass(frozen=True, slots=True)
class NativeAdapter:
    """A packed adapter; ``memory`` owns the buffers to which ``struct`` points."""

    struct: abi.Adapter
    rank: int
    memory: _Buffers


def pack_adapter(adapter: Adapter, weights: NativeWeights) -> NativeAdapter:
    """Pack an adapter for the compiled step.

    Raises:
        AdapterError: The adapter has weights for layers that the model lacks, or of other shapes.
    """
    for name, factors in adapter.items():
        wanted = weights.shapes.get(name)
        if wanted is None:
            raise AdapterError(f"The adapter has weights for {name}, which this base lacks.")
        if (factors.b.shape[0], factors.a.shape[1]) != wanted:
            raise AdapterError(f"The adapter's weights for {name} have the wrong shape.")
    rank = max(factors.a.shape[0] for factors in adapter.values())
    memory = _Buffers()
    count = weights.struct.layers
    layers = [_adapter_layer(adapter, number, rank, weights, memory) for number in range(count)]
    array = memory.keep((abi.AdapterLayer * count)(*layers))
    return NativeAdapter(abi.Adapter(rank=rank, layer=array), rank, memory)


def low_columns(rank: int) -> int:
    """Return the most values of the low-rank activations of a token, padded to whole vectors."""
    width = rank * max(len(names) for names in _PARTS.values())
    return width + -width % LANES


def _adapter_layer(
    adapter: Adapter, number: int, rank: int, weights: NativeWeights, memory: _Buffers
) -> abi.AdapterLayer:
    pairs = {}
    for field, names in _PARTS.items():
        full = [f"model.layers.{number}.{name}" for name in names]
        chosen = [_padded(adapter.get(name), weights.shapes[name], rank) for name in full]
        down = torch.cat([a for a, _ in chosen]).to(weights.dtype)
        ups = [b for _, b in chosen]
        pairs[field] = abi.NativeLowRank(
            down=memory.at(panels(pad_inputs(down, LANES), 1)),
            up=memory.at(rank_panels(_joined(field, ups))),
            part=memory.at(_part_of_each_vector(field, ups)),
            parts=len(names),
        )
    return abi.AdapterLayer(**pairs)


def _padded(
    factors: Factors | None, shape: tuple[int, int], rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a module's factors in fp32, padded with zeros to ``rank``; zeros without any."""
    a, b = torch.zeros(rank, shape[1]), torch.zeros(shape[0], rank)
    if factors is not None:
        a[: factors.a.shape[0]] = factors.a
        b[:, : factors.b.shape[1]] = factors.b
    return a, b


def _joined(field: str, ups: Sequence[torch.Tensor]) -> torch.Tensor:
    joined = interleave(*ups) if field == "mlp_in" else stack_parts(ups)
    return pad_outputs(joined, abi.PANEL)


def _part_of_each_vector(field: str, ups: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the index of the stacked module of each vector of outputs, ``[panels, 2]`` int32."""
    numbered = [torch.full_like(up[:, :1], part) for part, up in enumerate(ups)]
    ends = _joined(field, numbered).view(-1, abi.PANEL // LANES, LANES)
    return ends.amax(-1).to(torch.int32)


def _rotations(model: Any, context: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the model's rotary cosines and sines, ``[context, head size]`` in fp32."""
    positions = torch.arange(context)[None]
    cosines, sines = model.model.rotary_emb(torch.zeros(1, dtype=torch.float32), positions)
    return cosines[0], sines[0]


def _weight(module: Any, name: str) -> torch.Tensor | None:
    child = getattr(module, name, None)
    return None if child is None else child.weight
