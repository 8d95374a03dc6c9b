"""The attention and mask functions that the generic runner registers with transformers.

Grouped-query attention over KV slots. With one query a row, torch's fused attention is slower than
two batched products over (row, KV head) with the group's query heads as the matrix rows.

The model itself says which earlier positions a token sees in which layer (all, or a window of
them): it calls the mask function with its rule, and with where each row's new tokens start.
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
    "sliding_window",  # the mask says it
    "is_causal",  # likewise
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
    """Attend from the new tokens of each row to what its slot holds.

    Args:
        module: The layer.
        query: ``[rows, heads, new tokens, head size]``.
        key: ``[rows, KV heads, length, head size]``.
        value: The same shape as ``key``.
        attention_mask: ``[rows, 1, new tokens, length]``, added to the scores; 0 keeps, -inf masks.
        scaling: Factor of the scores; 1 / sqrt(head size) when None.
        softcap: Bound ``c`` of the scores, ``c · tanh(scores / c)``; none when None.
        others: What the interface passes besides; nothing else may change the result.

    Returns:
        ``[rows, new tokens, heads, head size]``, and None for the weights.

    Raises:
        EngineError: The layer asks for something that is not done here, such as attention sinks.
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
    """Return the mask of the new tokens of each row over what its slot holds.

    Args:
        batch_size: Rows.
        q_length: New tokens a row.
        kv_length: Positions that are read.
        q_offset: The position of each row's first new token, ``[rows, 1, 1, 1]``.
        mask_function: The model's rule: whether the query at one position sees the key at another.
        dtype: Number format of the mask.
        use_vmap: Whether the rule takes single numbers only.

    Returns:
        ``[rows, 1, new tokens, length]``, added to the scores; 0 keeps, -inf masks.

    Raises:
        EngineError: The rule does not take tensors.
    """
    if use_vmap:
        raise EngineError("its attention mask has a rule of its own")
    device = q_offset.device
    row = torch.arange(batch_size, device=device)[:, None, None, None]
    query = torch.arange(q_length, device=device)[None, None, :, None] + q_offset
    key = torch.arange(kv_length, device=device)[None, None, None, :]
    seen = mask_function(row, 0, query, key).expand(batch_size, 1, q_length, kv_length)
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, -torch.inf)


def register() -> None:
    """Make the functions known to transformers under ``NAME``."""
    AttentionInterface.register(NAME, slot_attention)
    AttentionMaskInterface.register(NAME, slot_mask)
