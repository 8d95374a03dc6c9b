"""The output head: log-probs of reply tokens and KL to the base, computed slice by slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from models.policy.kernels import TorchKernels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.policy.kernels import Kernels

_LOGITS_PER_SLICE = 10 * 2**20
"""The logits of a slice; products with fewer rows are slower."""
_MAX_SAVED_LOGITS = 60 * 2**20
"""The most logits that a pass saves for its gradient: 1,280 tokens of a vocabulary of 49,152."""


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
        hidden: The last states, ``[kept, H]``, through which gradients flow.
        chosen: The token ids, ``[kept]``.
        temperature: The divisor of the logits, ``[kept]``.
        head: The frozen layer from states to logits.
        reference: The reference's last states at the same positions, ``[kept, H]``.
        kernels: The functions that compute; None means torch's.

    Returns:
        log π(chosen) ``[kept]``, and KL(π ‖ reference) over the whole vocabulary ``[kept]``, which
        is 0 without a reference. Both are fp32, in nats.
    """
    logprobs, kl = _Head.apply(  # type: ignore[no-untyped-call]
        hidden, chosen, temperature, head, reference, kernels or TorchKernels()
    )
    return logprobs, kl


class _Head(torch.autograd.Function):
    """Computes log-probs and KL; saves logits for the gradient, in their number format.

    Logits beyond ``_MAX_SAVED_LOGITS`` are computed again in the backward pass.
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
        saved_parts = []
        for part in _parts(len(hidden), head.weight.shape[0]):
            logits, delta = _products(hidden, reference, part, head, kernels)
            logprobs[part], kl[part], saved = kernels.logprobs_and_kl(
                logits, delta, temperature[part], chosen[part]
            )
            if ctx.needs_input_grad[0]:
                fits = part.stop * logits.shape[1] <= _MAX_SAVED_LOGITS
                saved_parts.append((part, (logits, delta) if fits else None, saved))
        ctx.save_for_backward(hidden, reference, chosen, temperature)
        ctx.parts, ctx.head, ctx.kernels = saved_parts, head, kernels
        return logprobs, kl

    @staticmethod
    def backward(ctx: Any, dlogprobs: torch.Tensor, dkl: torch.Tensor) -> tuple[Any, ...]:
        hidden, reference, chosen, temperature = ctx.saved_tensors
        dlogprobs, dkl = dlogprobs.contiguous(), dkl.contiguous()
        out = torch.empty_like(hidden)
        while ctx.parts:
            part, products, saved = ctx.parts.pop()
            logits, delta = products or _products(hidden, reference, part, ctx.head, ctx.kernels)
            dlogits = ctx.kernels.logprobs_and_kl_backward(
                logits, delta, temperature[part], chosen[part], (dlogprobs[part], dkl[part]), saved
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
    """Return the logits, and the logits minus the reference's (None without a reference)."""
    states = [hidden[part]]
    if reference is not None:
        # The product of the difference, because the difference of two rounded products has an
        # error as large as the effect of a small step.
        states.append(hidden[part] - reference[part])
    products = kernels.multiply(torch.cat(states), head.weight.T).chunk(len(states))
    logits, delta = products[0], products[1] if reference is not None else None
    if head.bias is not None:
        logits.add_(head.bias)
    return logits, delta


def _parts(rows: int, vocabulary: int) -> Iterator[slice]:
    """Yield slices of rows, of about equal length."""
    count = max(1, -(-rows * vocabulary // _LOGITS_PER_SLICE))
    size = -(-rows // count)
    return (slice(i, min(i + size, rows)) for i in range(0, rows, size))
