"""Log-probs of reply tokens and KL to the base, without logits of the whole batch at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_LOGITS = 2**22
"""fp32 logits that exist at a time: few enough to stay in the processor's cache."""


def token_logprobs(
    hidden: torch.Tensor,
    chosen: torch.Tensor,
    temperature: torch.Tensor,
    head: torch.nn.Linear,
    reference: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probs of tokens, and the exact KL to a reference at their positions.

    Args:
        hidden: Last states, ``[kept, H]``; carries the gradient.
        chosen: The tokens, ``[kept]``.
        temperature: What divides the logits, ``[kept]``.
        head: From states to logits; frozen.
        reference: The reference's states at the same positions, which go through the same head.

    Returns:
        log π(chosen), ``[kept]``, and KL(π ‖ reference) over the whole distribution, ``[kept]``,
        which is 0 where no reference is given. Both fp32.
    """
    logprobs, kl = _Head.apply(hidden, chosen, temperature, head, reference)  # type: ignore[no-untyped-call]
    return logprobs, kl


class _Head(torch.autograd.Function):
    """Keeps, for the backward pass, what the gradient of the logits is made of.

    With p = π(v): ∂ log π(c) / ∂ z_v = [v = c] - p, and ∂ KL / ∂ z_v = p (log p / q - KL).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        chosen: torch.Tensor,
        temperature: torch.Tensor,
        head: torch.nn.Linear,
        reference: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs, kl = torch.empty(2, len(hidden), device=hidden.device)
        shape, learns = (len(hidden), head.weight.shape[0]), ctx.needs_input_grad[0]
        probs = hidden.new_empty(shape if learns else (0,))
        pulls = hidden.new_empty(shape if learns and reference is not None else (0,))
        for part in _parts(*shape):
            log_p = _distribution(hidden[part], temperature[part], head)
            logprobs[part] = log_p.gather(1, chosen[part, None])[:, 0]
            if reference is None and not learns:
                continue
            p = log_p.softmax(-1)  # exp(log_p), by the faster of torch's two routines
            if reference is not None:
                ratio = log_p.sub_(_distribution(reference[part], temperature[part], head))
                kl[part] = torch.linalg.vecdot(p, ratio)
                if learns:
                    pulls[part] = ratio.sub_(kl[part, None]).mul_(p)
            if learns:
                probs[part] = p
        if reference is None:
            kl.zero_()
        ctx.save_for_backward(chosen, temperature, head.weight, probs, pulls)
        return logprobs, kl

    @staticmethod
    def backward(ctx: Any, dlogprobs: torch.Tensor, dkl: torch.Tensor) -> tuple[Any, ...]:
        chosen, temperature, weight, probs, pulls = ctx.saved_tensors
        on_probs = (dlogprobs / temperature).to(probs.dtype)
        on_pulls = (dkl / temperature).to(probs.dtype)
        out = probs.new_empty(len(probs), weight.shape[1])
        for part in _parts(*probs.shape):
            dlogits = probs[part] * -on_probs[part, None]
            if len(pulls):
                dlogits.addcmul_(pulls[part], on_pulls[part, None])
            dlogits.scatter_add_(1, chosen[part, None], on_probs[part, None])
            out[part] = dlogits @ weight
        return out, None, None, None, None


def _distribution(
    hidden: torch.Tensor, temperature: torch.Tensor, head: torch.nn.Linear
) -> torch.Tensor:
    logits: torch.Tensor = head(hidden).float()
    return logits.div_(temperature[:, None]).log_softmax(-1)


def _parts(rows: int, vocabulary: int) -> Iterator[slice]:
    size = max(1, _MOST_LOGITS // vocabulary)
    return (slice(i, i + size) for i in range(0, rows, size))
