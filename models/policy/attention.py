"""Causal attention over padded rows and its gradient, with nothing kept but the queries and keys.

On this project's processors torch's fused attention is fast for one long sequence; for many short
replies, products over (row, KV head) with the group's queries as matrix rows take a fifth of its
time in the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_SCORES = 2**22
"""Scores that exist at a time: bounds the memory of long rows."""


@dataclass(frozen=True, slots=True)
class Heads:
    """How the columns of the joined queries, keys and values are divided.

    Attributes:
        kv: Key and value heads.
        group: Query heads for each of them.
        size: Columns of a head.
        scale: Factor of the scores.
    """

    kv: int
    group: int
    size: int
    scale: float

    @property
    def turned(self) -> int:
        """Heads of queries and keys, which positions turn."""
        return self.kv * (self.group + 1)

    @property
    def queries(self) -> int:
        """Columns of all queries."""
        return self.kv * self.group * self.size

    @property
    def keys(self) -> int:
        """Columns of all keys, or of all values."""
        return self.kv * self.size


def attend(qkv: torch.Tensor, shape: tuple[int, int], heads: Heads) -> torch.Tensor:
    """Return what each cell attends to.

    Args:
        qkv: Queries, keys, values, ``[B · S, columns]``; positions are in them already.
        shape: ``(B, S)``; padding is on the right, where causality hides it.
        heads: What the columns are.

    Returns:
        ``[B · S, query columns]``.
    """
    q, k, v = _split(qkv, shape, heads)
    out, mask = torch.empty_like(q), _mask(shape[1], heads.group, qkv.device)
    for part in _parts(q, k):
        weights = _weights(q[part], k[part], mask, heads.scale).to(v.dtype)
        out[part] = weights @ v[part]
    return _joined(out, shape, heads.kv, heads.group)


def attend_backward(
    qkv: torch.Tensor, dout: torch.Tensor, shape: tuple[int, int], heads: Heads
) -> torch.Tensor:
    """Return the gradient of ``qkv``, given that of ``attend``'s result."""
    q, k, v = _split(qkv, shape, heads)
    do = _apart(dout, shape, heads.kv, heads.group)
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    mask = _mask(shape[1], heads.group, qkv.device)
    for part in _parts(q, k):
        weights = _weights(q[part], k[part], mask, heads.scale)
        dv[part] = weights.to(v.dtype).transpose(1, 2) @ do[part]
        dweights = (do[part] @ v[part].transpose(1, 2)).float()
        # of the softmax: w · (dw - Σ w dw)
        dscores = torch.ops.aten._softmax_backward_data(  # noqa: SLF001 - its public form is autograd
            dweights, weights, -1, torch.float32
        )
        dscores = dscores.mul_(heads.scale).to(q.dtype)
        dq[part] = dscores @ k[part]
        dk[part] = dscores.transpose(1, 2) @ q[part]
    return torch.cat(
        [
            _joined(dq, shape, heads.kv, heads.group),
            _joined(dk, shape, heads.kv, 1),
            _joined(dv, shape, heads.kv, 1),
        ],
        dim=1,
    )


def _split(
    qkv: torch.Tensor, shape: tuple[int, int], heads: Heads
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ``[B · kv, group · S, size]`` queries and ``[B · kv, S, size]`` keys and values."""
    q, k, v = torch.split(qkv, [heads.queries, heads.keys, heads.keys], dim=1)
    return (
        _apart(q, shape, heads.kv, heads.group),
        _apart(k, shape, heads.kv, 1),
        _apart(v, shape, heads.kv, 1),
    )


def _apart(x: torch.Tensor, shape: tuple[int, int], kv: int, group: int) -> torch.Tensor:
    rows, width = shape
    parted = x.reshape(rows, width, kv, group, -1).permute(0, 2, 3, 1, 4)
    return parted.reshape(rows * kv, group * width, -1)


def _joined(x: torch.Tensor, shape: tuple[int, int], kv: int, group: int) -> torch.Tensor:
    rows, width = shape
    parted = x.view(rows, kv, group, width, -1).permute(0, 3, 1, 2, 4)
    return parted.reshape(rows * width, -1)


def _weights(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
    """Return attention weights in fp32: rounded scores would add noise to every log-prob."""
    scores = torch.baddbmm(mask, q.float(), k.float().transpose(1, 2), alpha=scale)
    return scores.softmax(-1)


def _mask(width: int, group: int, device: torch.device) -> torch.Tensor:
    """Return ``[1, group · S, S]``, added to the scores: -inf for what comes later."""
    later = torch.full((width, width), -torch.inf, device=device).triu(1)
    return later.repeat(group, 1)[None]


def _parts(q: torch.Tensor, k: torch.Tensor) -> Iterator[slice]:
    """Yield ranges of (row, KV head) that are done together."""
    size = max(1, _MOST_SCORES // (q.shape[1] * k.shape[1]))
    return (slice(i, i + size) for i in range(0, len(q), size))
