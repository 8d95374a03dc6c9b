"""Forward and backward passes of Llama-like decoders with an adapter, written out by hand.

What autograd would keep is kept once and in the base's number format, or made again where that is
cheaper; products of layers that read the same input are one. Adapters' gradients are added to the
fp32 masters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from models.native.llama import unsupported
from models.policy.attention import Heads
from models.policy.linear import LowRankLinear, LowRankPair

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.policy.gradients import Gradients
    from models.policy.kernels import Kernels
    from models.policy.packing import Packed

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
class KeptActivations:
    """What one layer keeps for its backward pass, ``[N, …]`` each.

    Attributes:
        x: Its input.
        qkv: Queries, keys and values, positions in them.
        attended: What attention gave.
        middle: The state between attention and MLP.
        gates: The gate's and the other half of the MLP's first product.
        lowered: ``A x`` of the first, third and fourth product, whose inputs are made again.
        late: Which tokens all but ``x``, ``qkv`` and the first ``A x`` are of; None for all.
    """

    x: torch.Tensor
    qkv: torch.Tensor
    attended: torch.Tensor
    middle: torch.Tensor
    gates: torch.Tensor
    lowered: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    late: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class PassContext:
    """Where a pass is.

    Attributes:
        packed: Its tokens.
        kernels: What computes.
        cosines: Rotations by the tokens' positions, ``[N, size / 2]`` fp32.
        sines: Likewise.
        late: The tokens whose last states are wanted, each once.
        chosen: Which of ``late`` each kept one is, ``[kept]``.
    """

    packed: Packed
    kernels: Kernels
    cosines: torch.Tensor
    sines: torch.Tensor
    late: torch.Tensor
    chosen: torch.Tensor


class DecoderLayer:
    """One decoder layer."""

    def __init__(
        self,
        layer: Any,
        config: Any,
        pair_of: Callable[[str], LowRankPair],
        kernels: Kernels,
        *,
        scale: float,
    ) -> None:
        parts = [[layer.get_submodule(name) for name in names] for names in _JOINED]
        qkv, out, gates, down = (
            LowRankLinear(
                [getattr(part, "base_layer", part) for part in group],
                [pair_of(name) for name in names],
                kernels,
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

    def forward(
        self,
        x: torch.Tensor,
        place: PassContext,
        *,
        adapted: bool,
        late: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, KeptActivations]:
        """Return the layer's output and what its backward pass needs.

        Args:
            x: The layer's input, ``[N, H]``.
            place: Where its tokens are.
            adapted: With the adapter, or the base alone.
            late: Which tokens to go on with after attention, ``[n]``: of the last layer, few are
                wanted. The output is ``[n, H]`` then.
        """
        kernels, heads = place.kernels, self._heads
        normed = self._normed(x, self._first_norm, self._qkv, kernels)
        qkv = self._qkv.forward(normed, adapted=adapted)
        first = self._qkv.lowered(normed).clone()
        kernels.rotate(qkv, place.cosines, place.sines, heads.turned, back=False)
        attended = self._out.room(len(x))
        kernels.attend(qkv, place.packed, heads, attended[:, : heads.queries])
        before = x
        if late is not None:
            attended, before = attended[late], x[late]
        middle = self._out.forward(attended, adapted=adapted).add_(before)
        normed = self._normed(middle, self._second_norm, self._gates, kernels)
        gates = self._gates.forward(normed, adapted=adapted)
        activated = self._down.room(len(gates))
        kernels.gate(gates, activated[:, : self._down.inputs])
        out = self._down.forward(activated, adapted=adapted).add_(middle)
        lowered = (
            first,
            self._gates.lowered(normed).clone(),
            self._down.lowered(activated).clone(),
        )
        return out, KeptActivations(x, qkv, attended, middle, gates, lowered, late)

    def backward(
        self, kept: KeptActivations, dout: torch.Tensor, place: PassContext, gradients: Gradients
    ) -> torch.Tensor:
        """Add to the adapter's gradients; return the gradient of the layer's input, ``[N, H]``."""
        kernels, heads, epsilon = place.kernels, self._heads, self._epsilon
        first, third, fourth = kept.lowered
        activated = self._down.room(len(kept.gates), fourth)
        pulled = self._down.pull(dout)
        dactivated, inner = pulled[:, : self._down.inputs], activated[:, : self._down.inputs]
        dgates = kernels.gate_backward(kept.gates, dactivated, inner)
        self._down.learn(activated, dout, pulled, gradients)
        normed = self._normed(kept.middle, self._second_norm, self._gates, kernels, third)
        dnormed = self._gates.backward(normed, dgates, gradients)
        dmiddle = kernels.norm_backward(kept.middle, self._second_norm, dnormed, epsilon, dout)
        dattended = self._out.backward(kept.attended, dmiddle, gradients)
        if kept.late is not None:
            dattended = _among(len(kept.x), kept.late, dattended)
            dmiddle = _among(len(kept.x), kept.late, dmiddle)
        dqkv = kernels.attend_backward(kept.qkv, dattended, place.packed, heads)
        kernels.rotate(dqkv, place.cosines, place.sines, heads.turned, back=True)
        normed = self._normed(kept.x, self._first_norm, self._qkv, kernels, first)
        dnormed = self._qkv.backward(normed, dqkv, gradients)
        return kernels.norm_backward(kept.x, self._first_norm, dnormed, epsilon, dmiddle)

    def _normed(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        taker: LowRankLinear,
        kernels: Kernels,
        lowered: torch.Tensor | None = None,
    ) -> torch.Tensor:
        room = taker.room(len(x), lowered)
        kernels.norm(x, weight, self._epsilon, room[:, : taker.inputs])
        return room


class LlamaTrunk:
    """All layers of a Llama-like model, which it takes over, with one adapter.

    Args:
        model: transformers' model, ``why_not`` asked before; it may be wrapped by peft.
        pair_of: Finds the masters of a layer by its name in the model.
        kernels: What computes.
        scale: alpha / rank.
        most_tokens: A pass over more of them keeps the layers' inputs only, and makes the rest
            again in the backward pass.
    """

    def __init__(
        self,
        model: Any,
        pair_of: Callable[[str], LowRankPair],
        kernels: Kernels,
        *,
        scale: float,
        most_tokens: int,
    ) -> None:
        self._model, self._kernels, self._most_tokens = model.model, kernels, most_tokens
        self._epsilon = model.config.rms_norm_eps
        self.layers = [
            DecoderLayer(
                layer,
                model.config,
                lambda name, number=number: pair_of(f"model.layers.{number}.{name}"),  # type: ignore[misc]
                kernels,
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

    def hidden(self, packed: Packed, gradients: Gradients) -> torch.Tensor:
        """Return the last states of the kept tokens, ``[kept, H]``.

        Their gradient, if it is asked for, becomes ``gradients`` of the masters.
        """
        states: torch.Tensor = _Pass.apply(self._anchor, self, packed, gradients)  # type: ignore[no-untyped-call]
        return states

    def reference_hidden(self, packed: Packed) -> torch.Tensor:
        """Return the same under the frozen base."""
        with torch.no_grad():
            place = self.place(packed)
            states, _ = self.forward(place, adapted=False, keep=False)
            return self.last_norm(states)[place.chosen]

    def reference_middle(self, packed: Packed, depth: int) -> torch.Tensor:
        """Return the kept tokens' states after so many layers under the base, ``[kept, H]``."""
        with torch.no_grad():
            place = self.place(packed)
            x = self._model.embed_tokens(packed.ids)
            for layer in self.layers[:depth]:
                x, _ = layer.forward(x, place, adapted=False)
            states: torch.Tensor = x[packed.kept]
            return states

    def forward(
        self, place: PassContext, *, adapted: bool, keep: bool
    ) -> tuple[torch.Tensor, list[KeptActivations | torch.Tensor]]:
        """Return the late tokens' states after the last layer, and what each layer keeps."""
        x, kept = self._model.embed_tokens(place.packed.ids), []
        for layer in self.layers:
            before = x
            x, all_of_it = layer.forward(x, place, adapted=adapted, late=self.late(layer, place))
            if keep:
                kept.append(all_of_it if len(before) <= self._most_tokens else before)
        return x, kept

    def late(self, layer: DecoderLayer, place: PassContext) -> torch.Tensor | None:
        """Return which tokens a layer's output is wanted of; None for all."""
        return place.late if layer is self.layers[-1] else None

    def place(self, packed: Packed) -> PassContext:
        """Look the rotations of the tokens' positions up, in fp32."""
        cosines, sines = self._model.rotary_emb(
            torch.empty(0, device=packed.ids.device), packed.positions[None]
        )
        half = cosines.shape[-1] // 2
        late, chosen = packed.kept.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        return PassContext(
            packed=packed,
            kernels=self._kernels,
            cosines=cosines[0, :, :half].contiguous(),
            sines=sines[0, :, :half].contiguous(),
            late=late,
            chosen=chosen,
        )

    def last_norm(self, states: torch.Tensor) -> torch.Tensor:
        """Return the model's output, ``[n, H]``."""
        out = torch.empty_like(states)
        self._kernels.norm(states, self._model.norm.weight, self._epsilon, out)
        return out

    def last_norm_backward(self, states: torch.Tensor, dnormed: torch.Tensor) -> torch.Tensor:
        """Return the gradient of ``last_norm``'s input."""
        weight = self._model.norm.weight
        return self._kernels.norm_backward(states, weight, dnormed, self._epsilon, None)


class _Pass(torch.autograd.Function):
    """Connects a trunk to autograd; the anchor is what makes the result need a gradient."""

    @staticmethod
    def forward(
        ctx: Any, _anchor: torch.Tensor, trunk: LlamaTrunk, packed: Packed, gradients: Gradients
    ) -> torch.Tensor:
        place = trunk.place(packed)
        states, kept = trunk.forward(place, adapted=True, keep=ctx.needs_input_grad[0])
        ctx.trunk, ctx.place, ctx.gradients = trunk, place, gradients
        ctx.kept, ctx.states = kept, states
        return trunk.last_norm(states)[place.chosen]

    @staticmethod
    def backward(ctx: Any, dhidden: torch.Tensor) -> tuple[None, ...]:
        trunk, place, kept = ctx.trunk, ctx.place, ctx.kept
        dnormed = torch.zeros_like(ctx.states).index_add_(0, place.chosen, dhidden)
        dx = trunk.last_norm_backward(ctx.states, dnormed)
        for layer in reversed(trunk.layers):
            known = kept.pop()
            if isinstance(known, torch.Tensor):
                late = trunk.late(layer, place)
                _, known = layer.forward(known, place, adapted=True, late=late)
            dx = layer.backward(known, dx, place, ctx.gradients)
        return None, None, None, None


def _among(count: int, places: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return ``count`` rows: these at their places, and 0."""
    return rows.new_zeros(count, rows.shape[1]).index_copy_(0, places, rows)
