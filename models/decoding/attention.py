"""Attention over KV slots, and its mask, as functions registered with transformers.

With one query in each row, torch's fused attention is slower than two batched matrix products over
(row, KV head), whose matrix rows are the query heads of a group.

The model decides which positions a token attends to in each layer. It passes the rule to the mask
function, with the position at which each row's new tokens start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from models.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "thumbloop_slots"

_HARMLESS = {
    "dropout",  # 0 in evaluation mode
    "sliding_window",  # applied by the mask
    "is_causal",  # applied by the mask
    "position_ids",
    "use_cache",
}


def slot_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return grouped-query attention from the new tokens of each row over its KV slot.

    Args:
        module: The layer, named in errors.
        query: ``[rows, heads, new tokens, head size]``.
        key: ``[rows, KV heads, length, head size]``.
        value: The same shape as ``key``.
        attention_mask: ``[rows, 1, new tokens, length]``, added to the scores; 0 keeps, -inf masks.
        scaling: The factor of the scores; None means 1 / sqrt(head size).
        softcap: The bound ``c`` of the scores, as ``c · tanh(scores / c)``; None means no bound.
        others: Further arguments of the interface, which must not change the result.

    Returns:
        ``[rows, new tokens, heads, head size]``, and None for the weights.

    Raises:
        EngineError: The layer needs a feature that is not implemented, such as attention sinks.
    """
    unknown = [k for k, v in others.items() if not (v is None or v is False or k in _HARMLESS)]
    if unknown:
        raise EngineError(f"{type(module).__name__} asks for {', '.join(unknown)}")
    rows, heads, new, size = query.shape
    kv_heads, length = key.shape[1], key.shape[2]
    group = heads // kv_heads
    scale = size**-0.5 if scaling is None else scaling
    if new > 1 and softcap is None:
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask, scale=scale, enable_gqa=group > 1
        )
        return out.transpose(1, 2), None
    grouped = (query * scale).reshape(rows * kv_heads, group * new, size)
    scores = torch.bmm(grouped, key.reshape(rows * kv_heads, length, size).transpose(1, 2))
    scores = scores.view(rows, heads, new, length).float()
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = (scores + attention_mask).softmax(-1).to(value.dtype)
    weights = weights.view(rows * kv_heads, group * new, length)
    out = torch.bmm(weights, value.reshape(rows * kv_heads, length, size))
    return out.view(rows, heads, new, size).transpose(1, 2), None


def slot_mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: torch.Tensor,
    mask_function: Callable[..., torch.Tensor],
    dtype: torch.dtype,
    use_vmap: bool = False,
    **_: Any,
) -> torch.Tensor:
    """Return the attention mask of the new tokens of each row over its KV slot.

    Args:
        batch_size: The number of rows.
        q_length: The number of new tokens of each row.
        kv_length: The number of positions that are read.
        q_offset: The position of each row's first new token, ``[rows, 1, 1, 1]``.
        mask_function: The model's rule, True where a query position attends to a key position.
        dtype: The number format of the mask.
        use_vmap: Whether the rule takes single numbers instead of tensors.

    Returns:
        ``[rows, 1, new tokens, length]``, added to the scores; 0 keeps, -inf masks.

    Raises:
        EngineError: The rule does not take tensors.
    """
    if use_vmap:
        raise EngineError("the rule of its attention mask does not take tensors")
    device = q_offset.device
    row = torch.arange(batch_size, device=device)[:, None, None, None]
    query = torch.arange(q_length, device=device)[None, None, :, None] + q_offset
    key = torch.arange(kv_length, device=device)[None, None, None, :]
    seen = mask_function(row, 0, query, key).expand(batch_size, 1, q_length, kv_length)
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, -torch.inf)


def register() -> None:
    """Register the functions with transformers under ``NAME``."""
    AttentionInterface.register(NAME, slot_attention)
    AttentionMaskInterface.register(NAME, slot_mask)
