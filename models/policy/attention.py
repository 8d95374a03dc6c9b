"""Causal grouped-query attention over padded rows, and its gradient, by torch operations.

The backward pass recomputes the attention weights. For many short replies on a CPU it takes a fifth
of the time of torch's fused attention: one product for each (row, KV head), with the queries of a
group as matrix rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_SCORES = 2**22
"""The most attention scores in memory at a time, which bounds the memory of long rows."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads in the columns of fused queries, keys and values.

    Attributes:
        kv: The number of KV heads.
        group: The number of query heads for each KV head.
        size: The columns of a head.
        scale: The factor of the scores.
    """

    kv: int
    group: int
    size: int
    scale: float

    @property
    def rotated(self) -> int:
        """The number of query and key heads, to which rotary embedding applies."""
        return self.kv * (self.group + 1)

    @property
    def query_columns(self) -> int:
        """The columns of all queries."""
        return self.kv * self.group * self.size

    @property
    def key_columns(self) -> int:
        """The columns of all keys; all values have as many."""
        return self.kv * self.size


def attend(qkv: torch.Tensor, shape: tuple[int, int], heads: Heads) -> torch.Tensor:
    """Return the attention output of each cell.

    Args:
        qkv: The queries, keys and values after rotary embedding, ``[B · S, columns]``.
        shape: ``(B, S)``. Padding is on the right, where the causal mask hides it.
        heads: The heads in the columns.

    Returns:
        ``[B · S, query columns]``.
    """
    q, k, v = _split(qkv, shape, heads)
    out, mask = torch.empty_like(q), _mask(shape[1], heads.group, qkv.device)
    for part in _parts(q, k):
        weights = _weights(q[part], k[part], mask, heads.scale).to(v.dtype)
        out[part] = weights @ v[part]
    return _merge_heads(out, shape, heads.kv, heads.group)


def attend_backward(
    qkv: torch.Tensor, dout: torch.Tensor, shape: tuple[int, int], heads: Heads
) -> torch.Tensor:
    """Return the gradient of ``qkv``, given the gradient ``dout`` of the output of ``attend``."""
    q, k, v = _split(qkv, shape, heads)
    do = _split_heads(dout, shape, heads.kv, heads.group)
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    mask = _mask(shape[1], heads.group, qkv.device)
    for part in _parts(q, k):
        weights = _weights(q[part], k[part], mask, heads.scale)
        dv[part] = weights.to(v.dtype).transpose(1, 2) @ do[part]
        dweights = (do[part] @ v[part].transpose(1, 2)).float()
        # the softmax's gradient, w · (dw - Σ w dw)
        dscores = torch.ops.aten._softmax_backward_data(  # noqa: SLF001 - no public form
            dweights, weights, -1, torch.float32
        )
        dscores = dscores.mul_(heads.scale).to(q.dtype)
        dq[part] = dscores @ k[part]
        dk[part] = dscores.transpose(1, 2) @ q[part]
    return torch.cat(
        [
            _merge_heads(dq, shape, heads.kv, heads.group),
            _merge_heads(dk, shape, heads.kv, 1),
            _merge_heads(dv, shape, heads.kv, 1),
        ],
        dim=1,
    )


def _split(
    qkv: torch.Tensor, shape: tuple[int, int], heads: Heads
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ``[B · kv, group · S, size]`` queries and ``[B · kv, S, size]`` keys and values."""
    q, k, v = torch.split(qkv, [heads.query_columns, heads.key_columns, heads.key_columns], dim=1)
    return (
        _split_heads(q, shape, heads.kv, heads.group),
        _split_heads(k, shape, heads.kv, 1),
        _split_heads(v, shape, heads.kv, 1),
    )


def _split_heads(x: torch.Tensor, shape: tuple[int, int], kv: int, group: int) -> torch.Tensor:
    rows, width = shape
    parted = x.reshape(rows, width, kv, group, -1).permute(0, 2, 3, 1, 4)
    return parted.reshape(rows * kv, group * width, -1)


def _merge_heads(x: torch.Tensor, shape: tuple[int, int], kv: int, group: int) -> torch.Tensor:
    rows, width = shape
    parted = x.view(rows, kv, group, width, -1).permute(0, 3, 1, 2, 4)
    return parted.reshape(rows * width, -1)


def _weights(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
    """Return attention weights in fp32, because rounded scores add noise to every log-prob."""
    scores = torch.baddbmm(mask, q.float(), k.float().transpose(1, 2), alpha=scale)
    return scores.softmax(-1)


def _mask(width: int, group: int, device: torch.device) -> torch.Tensor:
    """Return the causal mask ``[1, group · S, S]``, added to the scores; -inf masks."""
    later = torch.full((width, width), -torch.inf, device=device).triu(1)
    return later.repeat(group, 1)[None]


def _parts(q: torch.Tensor, k: torch.Tensor) -> Iterator[slice]:
    """Yield ranges of (row, KV head) that are computed together."""
    size = max(1, _MAX_SCORES // (q.shape[1] * k.shape[1]))
    return (slice(i, i + size) for i in range(0, len(q), size))
