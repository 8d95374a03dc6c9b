"""Forward and backward passes of Llama-like decoders with an adapter, written out by hand.

What autograd would keep is kept once and in the base's number format, or made again where that is
cheaper; products of layers that read the same input are one. Adapters' gradients are added to the
fp32 masters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import rms_norm, silu

from models.decoding.native.weights import unsupported
from models.learning.attention import Heads, attend, attend_backward
from models.learning.linear import LowRankLinear, Pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.learning.packing import Packed

_JOINED = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)


def why_not(model: Any) -> str | None:
    """Return why a transformers model cannot be learned with these passes; None if it can."""
    reason = unsupported(model)
    if reason is None and hasattr(model.model.layers[0].self_attn, "q_norm"):
        reason = "it has no code for norms of queries and keys"
    return reason


@dataclass(frozen=True, slots=True)
class Kept:
    """What one layer keeps for its backward pass, ``[N, …]`` each.

    Attributes:
        x: Its input.
        qkv: Queries, keys and values, positions in them.
        attended: What attention gave.
        middle: The state between attention and MLP.
        gates: The gate's and the other half of the MLP's first product.
    """

    x: torch.Tensor
    qkv: torch.Tensor
    attended: torch.Tensor
    middle: torch.Tensor
    gates: torch.Tensor


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tokens of a pass are: rows, cells, and rotations ``[N, 1, size / 2]``."""

    packed: Packed
    cosines: torch.Tensor
    sines: torch.Tensor


class Layer:
    """One decoder layer."""

    def __init__(
        self, layer: Any, config: Any, pair_of: Callable[[str], Pair], *, scale: float
    ) -> None:
        parts = [[layer.get_submodule(name) for name in names] for names in _JOINED]
        qkv, out, gates, down = (
            LowRankLinear(
                [getattr(part, "base_layer", part) for part in group],
                [pair_of(name) for name in names],
                scale=scale,
            )
            for group, names in zip(parts, _JOINED, strict=True)
        )
        self.products = (qkv, out, gates, down)
        self._qkv, self._out, self._gates, self._down = self.products
        self._first_norm = layer.input_layernorm.weight
        self._second_norm = layer.post_attention_layernorm.weight
        self._epsilon = config.rms_norm_eps
        attention = layer.self_attn
        self._heads = Heads(
            kv=config.num_key_value_heads,
            group=config.num_attention_heads // config.num_key_value_heads,
            size=attention.head_dim,
            scale=attention.scaling,
        )

    def forward(self, x: torch.Tensor, place: Place, *, adapted: bool) -> tuple[torch.Tensor, Kept]:
        """Return the layer's output, ``[N, H]``, and what its backward pass needs."""
        packed, heads = place.packed, self._heads
        qkv = self._qkv.forward(self._normed(x, self._first_norm, self._qkv), adapted=adapted)
        _rotate(qkv[:, : heads.queries + heads.keys], place.cosines, place.sines)
        attended = self._out.room(len(x))
        found = attend(packed.spread(qkv), packed.shape, heads)
        attended[:, : heads.queries] = packed.gather(found)
        middle = self._out.forward(attended, adapted=adapted).add_(x)
        gates = self._gates.forward(
            self._normed(middle, self._second_norm, self._gates), adapted=adapted
        )
        activated, _ = self._activated(gates)
        out = self._down.forward(activated, adapted=adapted).add_(middle)
        return out, Kept(x, qkv, attended, middle, gates)

    def backward(self, kept: Kept, dout: torch.Tensor, place: Place) -> torch.Tensor:
        """Add to the adapter's gradients; return the gradient of the layer's input."""
        packed, heads = place.packed, self._heads
        activated, gate = self._activated(kept.gates)
        self._down.extend(activated)
        dactivated = self._down.backward(activated, dout)
        dgates = _gates_backward(kept.gates, gate, dactivated)
        normed = self._normed(kept.middle, self._second_norm, self._gates)
        self._gates.extend(normed)
        dnormed = self._gates.backward(normed, dgates)
        dmiddle = norm_backward(kept.middle, self._second_norm, dnormed, self._epsilon).add_(dout)
        dattended = packed.spread_gradient(self._out.backward(kept.attended, dmiddle))
        dcells = attend_backward(packed.spread(kept.qkv), dattended, packed.shape, heads)
        dqkv = packed.gather_gradient(dcells)
        _rotate(dqkv[:, : heads.queries + heads.keys], place.cosines, -place.sines)
        normed = self._normed(kept.x, self._first_norm, self._qkv)
        self._qkv.extend(normed)
        dnormed = self._qkv.backward(normed, dqkv)
        return norm_backward(kept.x, self._first_norm, dnormed, self._epsilon).add_(dmiddle)

    def _normed(self, x: torch.Tensor, weight: torch.Tensor, taker: LowRankLinear) -> torch.Tensor:
        room = taker.room(len(x))
        room[:, : taker.inputs] = rms_norm(x, weight.shape, weight, self._epsilon)
        return room

    def _activated(self, gates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the MLP's activations in the room of its second product, and their gate."""
        room = self._down.room(len(gates))
        first, second = gates.chunk(2, dim=1)
        gate = silu(first)
        torch.mul(gate, second, out=room[:, : self._down.inputs])
        return room, gate


class LlamaTrunk:
    """All layers of a Llama-like model, which it takes over, with one adapter.

    Args:
        model: transformers' model, ``why_not`` asked before; it may be wrapped by peft.
        pair_of: Finds the masters of a layer by its name in the model.
        scale: alpha / rank.
        most_tokens: A pass over more of them keeps the layers' inputs only, and makes the rest
            again in the backward pass.
    """

    def __init__(
        self, model: Any, pair_of: Callable[[str], Pair], *, scale: float, most_tokens: int
    ) -> None:
        self._model, self._most_tokens = model.model, most_tokens
        self._epsilon = model.config.rms_norm_eps
        self.layers = [
            Layer(
                layer,
                model.config,
                lambda name, number=number: pair_of(f"model.layers.{number}.{name}"),  # type: ignore[misc]
                scale=scale,
            )
            for number, layer in enumerate(self._model.layers)
        ]
        self._anchor = torch.zeros((), requires_grad=True)

    def refresh(self) -> None:
        """Take the masters' numbers into the products."""
        with torch.no_grad():
            for layer in self.layers:
                for product in layer.products:
                    product.refresh()

    def hidden(self, packed: Packed) -> torch.Tensor:
        """Return the last states of the kept tokens, ``[kept, H]``.

        Their gradient, if it is asked for, goes to the masters.
        """
        states: torch.Tensor = _Pass.apply(self._anchor, self, packed)  # type: ignore[no-untyped-call]
        return states

    def reference_hidden(self, packed: Packed) -> torch.Tensor:
        """Return the same under the frozen base."""
        with torch.no_grad():
            states, _ = self.forward(packed, adapted=False, keep=False)
            return self._last_norm(states[packed.kept])

    def forward(
        self, packed: Packed, *, adapted: bool, keep: bool
    ) -> tuple[torch.Tensor, list[Kept | torch.Tensor]]:
        """Return the states after the last layer, ``[N, H]``, and what each layer keeps."""
        place, x, kept = self.place(packed), self._model.embed_tokens(packed.ids), []
        for layer in self.layers:
            before = x
            x, all_of_it = layer.forward(x, place, adapted=adapted)
            if keep:
                kept.append(all_of_it if len(x) <= self._most_tokens else before)
        return x, kept

    def place(self, packed: Packed) -> Place:
        """Look the rotations of the tokens' positions up, in fp32."""
        cosines, sines = self._model.rotary_emb(
            torch.empty(0, device=packed.ids.device), packed.positions[None]
        )
        half = cosines.shape[-1] // 2
        return Place(packed, cosines[0, :, None, :half], sines[0, :, None, :half])

    def _last_norm(self, states: torch.Tensor) -> torch.Tensor:
        weight = self._model.norm.weight
        return rms_norm(states, weight.shape, weight, self._epsilon)

    def _last_norm_backward(self, states: torch.Tensor, dnormed: torch.Tensor) -> torch.Tensor:
        return norm_backward(states, self._model.norm.weight, dnormed, self._epsilon)


class _Pass(torch.autograd.Function):
    """Connects a trunk to autograd; the anchor is what makes the result need a gradient."""

    @staticmethod
    def forward(ctx: Any, _anchor: torch.Tensor, trunk: LlamaTrunk, packed: Packed) -> torch.Tensor:
        states, kept = trunk.forward(packed, adapted=True, keep=ctx.needs_input_grad[0])
        chosen = states[packed.kept]
        ctx.trunk, ctx.packed, ctx.kept, ctx.chosen = trunk, packed, kept, chosen
        return trunk._last_norm(chosen)  # noqa: SLF001 - the same module's

    @staticmethod
    def backward(ctx: Any, dhidden: torch.Tensor) -> tuple[None, None, None]:
        trunk, packed, kept = ctx.trunk, ctx.packed, ctx.kept
        dchosen = trunk._last_norm_backward(ctx.chosen, dhidden)  # noqa: SLF001 - likewise
        dx = dchosen.new_zeros(len(packed.ids), dchosen.shape[1])
        dx.index_add_(0, packed.kept, dchosen)
        place = trunk.place(packed)
        for layer in reversed(trunk.layers):
            known = kept.pop()
            if isinstance(known, torch.Tensor):
                _, known = layer.forward(known, place, adapted=True)
            dx = layer.backward(known, dx, place)
        return None, None, None


def norm_backward(
    x: torch.Tensor, weight: torch.Tensor, dy: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """Return the gradient of an RMS norm's input.

    y = r w x with r = (mean x² + ε)^-½, so dx = r (w dy) - x r³ mean(x w dy).
    """
    x_32, scaled = x.float(), dy * weight.float()
    r = x_32.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
    common = torch.linalg.vecdot(x_32, scaled)[:, None].mul_(r**3 / x.shape[1])
    return scaled.mul_(r).sub_(x_32.mul_(common)).to(x.dtype)


def _gates_backward(
    gates: torch.Tensor, gate: torch.Tensor, dactivated: torch.Tensor
) -> torch.Tensor:
    """Return the gradient of the MLP's first product: the gated half, then the other."""
    first, second = gates.chunk(2, dim=1)
    out = torch.empty_like(gates)
    dfirst, dsecond = out.chunk(2, dim=1)
    torch.mul(dactivated, gate, out=dsecond)
    torch.ops.aten.silu_backward.grad_input(dactivated * second, first, grad_input=dfirst)
    return out


def _rotate(heads: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> None:
    """Rotate queries and keys to their positions, in place: ``[N, heads · size]``.

    With the sines negated it is the rotation's gradient.
    """
    half = cosines.shape[-1]
    parted = heads.view(len(heads), -1, 2, half)
    first, second = parted[:, :, 0], parted[:, :, 1]
    turned = first * cosines - second * sines
    parted[:, :, 1] = second * cosines + first * sines
    parted[:, :, 0] = turned
