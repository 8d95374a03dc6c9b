"""Log-probs of reply tokens and KL to the base, without logits of the whole batch at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from models.learning.kernels import TorchKernels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.learning.kernels import Kernels

_MOST_LOGITS = 10 * 2**20
"""Logits of a slice: of fewer rows, the products are slower."""


def token_logprobs(
    hidden: torch.Tensor,
    chosen: torch.Tensor,
    temperature: torch.Tensor,
    head: torch.nn.Linear,
    reference: torch.Tensor | None = None,
    kernels: Kernels | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probs of tokens, and the exact KL to a reference at their positions.

    Args:
        hidden: Last states, ``[kept, H]``; carries the gradient.
        chosen: The tokens, ``[kept]``.
        temperature: What divides the logits, ``[kept]``.
        head: From states to logits; frozen.
        reference: The reference's states at the same positions, which go through the same head.
        kernels: What computes; torch's when None.

    Returns:
        log π(chosen), ``[kept]``, and KL(π ‖ reference) over the whole distribution, ``[kept]``,
        which is 0 where no reference is given. Both fp32.
    """
    logprobs, kl = _Head.apply(  # type: ignore[no-untyped-call]
        hidden, chosen, temperature, head, reference, kernels or TorchKernels()
    )
    return logprobs, kl


class _Head(torch.autograd.Function):
    """Keeps the logits for the backward pass, in the number format of the products."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        chosen: torch.Tensor,
        temperature: torch.Tensor,
        head: torch.nn.Linear,
        reference: torch.Tensor | None,
        kernels: Kernels,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs, kl = torch.empty(2, len(hidden), device=hidden.device)
        kept = []
        for part in _parts(len(hidden), head.weight.shape[0]):
            states = [hidden[part]]
            if reference is not None:
                # Of the difference, not the difference of two products: their rounding would be
                # as large as what a small step changes.
                states.append(hidden[part] - reference[part])
            products = kernels.multiply(torch.cat(states), head.weight.T).chunk(len(states))
            logits, gain = products[0], products[1] if reference is not None else None
            if head.bias is not None:
                logits.add_(head.bias)
            logprobs[part], kl[part], facts = kernels.distributions(
                logits, gain, temperature[part], chosen[part]
            )
            if ctx.needs_input_grad[0]:
                kept.append((part, logits, gain, facts))
        ctx.save_for_backward(chosen, temperature, head.weight)
        ctx.kept, ctx.kernels = kept, kernels
        return logprobs, kl

    @staticmethod
    def backward(ctx: Any, dlogprobs: torch.Tensor, dkl: torch.Tensor) -> tuple[Any, ...]:
        chosen, temperature, weight = ctx.saved_tensors
        dlogprobs, dkl = dlogprobs.contiguous(), dkl.contiguous()
        out = weight.new_empty(len(chosen), weight.shape[1])
        while ctx.kept:
            part, logits, gain, facts = ctx.kept.pop()
            dlogits = ctx.kernels.distributions_backward(
                logits, gain, temperature[part], chosen[part], (dlogprobs[part], dkl[part]), facts
            )  # fmt: skip
            ctx.kernels.multiply(dlogits, weight, out[part])
        return out, None, None, None, None, None


def _parts(rows: int, vocabulary: int) -> Iterator[slice]:
    """Yield ranges of about the same length."""
    count = max(1, -(-rows * vocabulary // _MOST_LOGITS))
    size = -(-rows // count)
    return (slice(i, min(i + size, rows)) for i in range(0, rows, size))
