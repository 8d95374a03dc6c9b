"""Log-probs of reply tokens and KL to the base, without logits of the whole batch at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from models.policy.kernels import TorchKernels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.policy.kernels import Kernels

_MOST_LOGITS = 10 * 2**20
"""Logits of a slice: of fewer rows, the products are slower."""
_MOST_KEPT = 60 * 2**20
"""Logits that are kept of one pass: those of 1,280 tokens, of a vocabulary of 49,152."""


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
    """Keeps the logits for the backward pass, in the number format of the products.

    Beyond ``_MOST_KEPT``, which one long reply may need by itself, they are computed again.
    """

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
            logits, gain = _products(hidden, reference, part, head, kernels)
            logprobs[part], kl[part], facts = kernels.distributions(
                logits, gain, temperature[part], chosen[part]
            )
            if ctx.needs_input_grad[0]:
                fits = part.stop * logits.shape[1] <= _MOST_KEPT
                kept.append((part, (logits, gain) if fits else None, facts))
        ctx.save_for_backward(hidden, reference, chosen, temperature)
        ctx.kept, ctx.head, ctx.kernels = kept, head, kernels
        return logprobs, kl

    @staticmethod
    def backward(ctx: Any, dlogprobs: torch.Tensor, dkl: torch.Tensor) -> tuple[Any, ...]:
        hidden, reference, chosen, temperature = ctx.saved_tensors
        dlogprobs, dkl = dlogprobs.contiguous(), dkl.contiguous()
        out = torch.empty_like(hidden)
        while ctx.kept:
            part, products, facts = ctx.kept.pop()
            logits, gain = products or _products(hidden, reference, part, ctx.head, ctx.kernels)
            dlogits = ctx.kernels.distributions_backward(
                logits, gain, temperature[part], chosen[part], (dlogprobs[part], dkl[part]), facts
            )  # fmt: skip
            ctx.kernels.multiply(dlogits, ctx.head.weight, out[part])
        return out, None, None, None, None, None


def _products(
    hidden: torch.Tensor,
    reference: torch.Tensor | None,
    part: slice,
    head: torch.nn.Linear,
    kernels: Kernels,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the logits, and how much they are above the reference's, where there is one."""
    states = [hidden[part]]
    if reference is not None:
        # Of the difference, not the difference of two products: their rounding would be
        # as large as what a small step changes.
        states.append(hidden[part] - reference[part])
    products = kernels.multiply(torch.cat(states), head.weight.T).chunk(len(states))
    logits, gain = products[0], products[1] if reference is not None else None
    if head.bias is not None:
        logits.add_(head.bias)
    return logits, gain


def _parts(rows: int, vocabulary: int) -> Iterator[slice]:
    """Yield ranges of about the same length."""
    count = max(1, -(-rows * vocabulary // _MOST_LOGITS))
    size = -(-rows // count)
    return (slice(i, min(i + size, rows)) for i in range(0, rows, size))
