"""Hand-written forward and backward passes of Llama-like decoders with a LoRA adapter.

Activations are saved once, in the base's number format, or recomputed where that is cheaper. Layers
with the same input are one matrix product. Gradients of the adapter go to the fp32 master weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from models.native.llama import unsupported
from models.policy.attention import Heads
from models.policy.linear import LoraParameters, LowRankLinear

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.policy.gradients import Gradients
    from models.policy.kernels import Kernels
    from models.policy.packing import Packed

_FUSED = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)


def unsupported_reason(model: Any) -> str | None:
    """Return why these passes cannot train a transformers model; None if they can."""
    reason = unsupported(model)
    if reason is None and hasattr(model.model.layers[0].self_attn, "q_norm"):
        reason = "it has no code for norms of queries and keys"
    return reason


@dataclass(frozen=True, slots=True)
class SavedActivations:
    """The activations that one layer saves for its backward pass, ``[N, …]`` each.

    Attributes:
        x: The layer's input.
        qkv: The queries, keys and values after rotary embedding.
        attended: The output of attention.
        middle: The residual stream between attention and MLP.
        gates: The outputs of the gate and up projections.
        low_rank_parts: ``A x`` of the qkv, gate/up and down products, whose inputs are recomputed.
        selected: The tokens of all fields but ``x``, ``qkv`` and the first of
            ``low_rank_parts``; None means all tokens.
    """

    x: torch.Tensor
    qkv: torch.Tensor
    attended: torch.Tensor
    middle: torch.Tensor
    gates: torch.Tensor
    low_rank_parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    selected: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class PassContext:
    """The constants of one pass.

    Attributes:
        packed: The tokens.
        kernels: The functions that compute.
        cosines: The rotary cosines of the tokens' positions, ``[N, size / 2]`` fp32.
        sines: Likewise.
        selected: The distinct tokens whose last states are needed, ``[n]``.
        chosen: The index in ``selected`` of each kept token, ``[kept]``.
    """

    packed: Packed
    kernels: Kernels
    cosines: torch.Tensor
    sines: torch.Tensor
    selected: torch.Tensor
    chosen: torch.Tensor


class DecoderLayer:
    """One decoder layer with LoRA in every linear layer."""

    def __init__(
        self,
        layer: Any,
        config: Any,
        lora_of: Callable[[str], LoraParameters],
        kernels: Kernels,
        *,
        scale: float,
    ) -> None:
        parts = [[layer.get_submodule(name) for name in names] for names in _FUSED]
        qkv, out, gates, down = (
            LowRankLinear(
                [getattr(part, "base_layer", part) for part in group],
                [lora_of(name) for name in names],
                kernels,
                scale=scale,
            )
            for group, names in zip(parts, _FUSED, strict=True)
        )
        self.products = (qkv, out, gates, down)
        self._qkv, self._out, self._gates, self._down = self.products
        self._attention_norm = layer.input_layernorm.weight
        self._mlp_norm = layer.post_attention_layernorm.weight
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
        context: PassContext,
        *,
        adapted: bool,
        selected: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, SavedActivations]:
        """Return the layer's output, and the activations for its backward pass.

        Args:
            x: The layer's input, ``[N, H]``.
            context: The constants of the pass.
            adapted: Whether the adapter is on.
            selected: The tokens to compute after attention, ``[n]``; None means all. The output
                is then ``[n, H]``. The last layer needs few of its tokens.
        """
        kernels, heads = context.kernels, self._heads
        normed = self._normed(x, self._attention_norm, self._qkv, kernels)
        qkv = self._qkv.forward(normed, adapted=adapted)
        qkv_low = self._qkv.low_rank_part(normed).clone()
        kernels.rotate(qkv, context.cosines, context.sines, heads.rotated, inverse=False)
        attended = self._out.input_buffer(len(x))
        kernels.attend(qkv, context.packed, heads, attended[:, : heads.query_columns])
        before = x
        if selected is not None:
            attended, before = attended[selected], x[selected]
        middle = self._out.forward(attended, adapted=adapted).add_(before)
        normed = self._normed(middle, self._mlp_norm, self._gates, kernels)
        gates = self._gates.forward(normed, adapted=adapted)
        activated = self._down.input_buffer(len(gates))
        kernels.swiglu(gates, activated[:, : self._down.inputs])
        out = self._down.forward(activated, adapted=adapted).add_(middle)
        low_rank_parts = (
            qkv_low,
            self._gates.low_rank_part(normed).clone(),
            self._down.low_rank_part(activated).clone(),
        )
        return out, SavedActivations(x, qkv, attended, middle, gates, low_rank_parts, selected)

    def backward(
        self,
        saved: SavedActivations,
        dout: torch.Tensor,
        context: PassContext,
        gradients: Gradients,
    ) -> torch.Tensor:
        """Add the adapter's gradients; return the gradient of the layer's input, ``[N, H]``."""
        kernels, heads, epsilon = context.kernels, self._heads, self._epsilon
        qkv_low, gates_low, down_low = saved.low_rank_parts
        activated = self._down.input_buffer(len(saved.gates), down_low)
        dinputs = self._down.input_gradients(dout)
        dactivated, inner = dinputs[:, : self._down.inputs], activated[:, : self._down.inputs]
        dgates = kernels.swiglu_backward(saved.gates, dactivated, inner)
        self._down.accumulate_gradients(activated, dout, dinputs, gradients)
        normed = self._normed(saved.middle, self._mlp_norm, self._gates, kernels, gates_low)
        dnormed = self._gates.backward(normed, dgates, gradients)
        dmiddle = kernels.rms_norm_backward(saved.middle, self._mlp_norm, dnormed, epsilon, dout)
        dattended = self._out.backward(saved.attended, dmiddle, gradients)
        if saved.selected is not None:
            dattended = _scatter_rows(len(saved.x), saved.selected, dattended)
            dmiddle = _scatter_rows(len(saved.x), saved.selected, dmiddle)
        dqkv = kernels.attend_backward(saved.qkv, dattended, context.packed, heads)
        kernels.rotate(dqkv, context.cosines, context.sines, heads.rotated, inverse=True)
        normed = self._normed(saved.x, self._attention_norm, self._qkv, kernels, qkv_low)
        dnormed = self._qkv.backward(normed, dqkv, gradients)
        return kernels.rms_norm_backward(saved.x, self._attention_norm, dnormed, epsilon, dmiddle)

    def _normed(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        layer: LowRankLinear,
        kernels: Kernels,
        low_rank_part: torch.Tensor | None = None,
    ) -> torch.Tensor:
        buffer = layer.input_buffer(len(x), low_rank_part)
        kernels.rms_norm(x, weight, self._epsilon, buffer[:, : layer.inputs])
        return buffer


class LlamaTrunk:
    """All layers of a Llama-like model, whose linear weights it restacks, with one adapter.

    Args:
        model: A transformers model for which ``unsupported_reason`` returns None; peft may wrap
            its layers.
        lora_of: Returns the master weights of a linear layer by its name in the model.
        kernels: The functions that compute.
        scale: alpha / rank.
        max_saved_tokens: The most tokens of a pass that saves all activations. A longer pass saves
            the layers' inputs and recomputes the rest in the backward pass.
    """

    def __init__(
        self,
        model: Any,
        lora_of: Callable[[str], LoraParameters],
        kernels: Kernels,
        *,
        scale: float,
        max_saved_tokens: int,
    ) -> None:
        self._model, self._kernels, self._max_saved_tokens = model.model, kernels, max_saved_tokens
        self._epsilon = model.config.rms_norm_eps
        self.layers = [
            DecoderLayer(
                layer,
                model.config,
                partial(_lora_of_layer, lora_of, number),
                kernels,
                scale=scale,
            )
            for number, layer in enumerate(self._model.layers)
        ]
        self._anchor = torch.zeros((), requires_grad=True)

    def refresh(self) -> None:
        """Copy the master weights to the weights that passes use."""
        with torch.no_grad():
            for layer in self.layers:
                for product in layer.products:
                    product.refresh()

    def hidden(self, packed: Packed, gradients: Gradients) -> torch.Tensor:
        """Return the last states of the kept tokens, ``[kept, H]``.

        A backward pass adds the gradients of the master weights to ``gradients``.
        """
        states: torch.Tensor = _Pass.apply(  # type: ignore[no-untyped-call]
            self._anchor, self, packed, gradients
        )
        return states

    def reference_hidden(self, packed: Packed) -> torch.Tensor:
        """Return the last states of the kept tokens under the frozen base, ``[kept, H]``."""
        with torch.no_grad():
            context = self.context(packed)
            states, _ = self.forward(context, adapted=False, keep=False)
            return self.last_norm(states)[context.chosen]

    def reference_layer(self, packed: Packed, depth: int) -> torch.Tensor:
        """Return the kept tokens' states after ``depth`` layers of the base, ``[kept, H]``."""
        with torch.no_grad():
            context = self.context(packed)
            x = self._model.embed_tokens(packed.ids)
            for layer in self.layers[:depth]:
                x, _ = layer.forward(x, context, adapted=False)
            states: torch.Tensor = x[packed.kept]
            return states

    def forward(
        self, context: PassContext, *, adapted: bool, keep: bool
    ) -> tuple[torch.Tensor, list[SavedActivations | torch.Tensor]]:
        """Return the selected tokens' states after the last layer, and what each layer saves."""
        x, saved = self._model.embed_tokens(context.packed.ids), []
        for layer in self.layers:
            before = x
            x, activations = layer.forward(
                x, context, adapted=adapted, selected=self.selected(layer, context)
            )
            if keep:
                saved.append(activations if len(before) <= self._max_saved_tokens else before)
        return x, saved

    def selected(self, layer: DecoderLayer, context: PassContext) -> torch.Tensor | None:
        """Return the tokens whose output of a layer is needed; None means all."""
        return context.selected if layer is self.layers[-1] else None

    def context(self, packed: Packed) -> PassContext:
        """Return the constants of a pass over packed tokens."""
        cosines, sines = self._model.rotary_emb(
            torch.empty(0, device=packed.ids.device), packed.positions[None]
        )
        half = cosines.shape[-1] // 2
        selected, chosen = packed.kept.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        return PassContext(
            packed=packed,
            kernels=self._kernels,
            cosines=cosines[0, :, :half].contiguous(),
            sines=sines[0, :, :half].contiguous(),
            selected=selected,
            chosen=chosen,
        )

    def last_norm(self, states: torch.Tensor) -> torch.Tensor:
        """Return the states ``[n, H]`` after the model's final norm."""
        out = torch.empty_like(states)
        self._kernels.rms_norm(states, self._model.norm.weight, self._epsilon, out)
        return out

    def last_norm_backward(self, states: torch.Tensor, dnormed: torch.Tensor) -> torch.Tensor:
        """Return the gradient of ``last_norm``'s input."""
        weight = self._model.norm.weight
        return self._kernels.rms_norm_backward(states, weight, dnormed, self._epsilon, None)


class _Pass(torch.autograd.Function):
    """Connects a trunk to autograd; the anchor makes autograd call ``backward``."""

    @staticmethod
    def forward(
        ctx: Any, _anchor: torch.Tensor, trunk: LlamaTrunk, packed: Packed, gradients: Gradients
    ) -> torch.Tensor:
        context = trunk.context(packed)
        states, saved = trunk.forward(context, adapted=True, keep=ctx.needs_input_grad[0])
        ctx.trunk, ctx.context, ctx.gradients = trunk, context, gradients
        ctx.saved, ctx.states = saved, states
        return trunk.last_norm(states)[context.chosen]

    @staticmethod
    def backward(ctx: Any, dhidden: torch.Tensor) -> tuple[None, ...]:
        trunk, context, saved = ctx.trunk, ctx.context, ctx.saved
        dnormed = torch.zeros_like(ctx.states).index_add_(0, context.chosen, dhidden)
        dx = trunk.last_norm_backward(ctx.states, dnormed)
        for layer in reversed(trunk.layers):
            saved_layer = saved.pop()
            if isinstance(saved_layer, torch.Tensor):
                selected = trunk.selected(layer, context)
                _, saved_layer = layer.forward(
                    saved_layer, context, adapted=True, selected=selected
                )
            dx = layer.backward(saved_layer, dx, context, ctx.gradients)
        return None, None, None, None


def _lora_of_layer(
    lora_of: Callable[[str], LoraParameters], number: int, name: str
) -> LoraParameters:
    return lora_of(f"model.layers.{number}.{name}")


def _scatter_rows(count: int, indices: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return ``count`` rows of zeros with ``rows`` at ``indices``."""
    return rows.new_zeros(count, rows.shape[1]).index_copy_(0, indices, rows)
