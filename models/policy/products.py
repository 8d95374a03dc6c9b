"""Products of the learner by torch, in the number format that the processor multiplies fastest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.native.processor import processor

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 2048
"""Rows of weights that are widened at a time: bounds the copy. Neither 512 nor 8,192 is faster."""


def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``a @ b`` in their number format, summed in fp32.

    Where bfloat16 products are slow (``Processor.multiplies_bfloat16``), the numbers are widened
    first; what comes out is rounded once, as it is elsewhere.

    Args:
        a: ``[n, k]``.
        b: ``[k, m]``, or such a matrix turned (``W.T``).
        out: Where it goes, ``[n, m]``; new memory by default.
    """
    if a.dtype != torch.bfloat16 or a.device.type != "cpu" or processor().multiplies_bfloat16:
        return torch.mm(a, b, out=out)
    out = a.new_empty(len(a), b.shape[1]) if out is None else out
    if len(b) > _MOST:
        total = torch.zeros(out.shape)
        for part in _parts(len(b)):
            total.addmm_(a[:, part].float(), _widened(b[part]))
        return out.copy_(total)
    wide = a.float()
    for part in _parts(b.shape[1]):
        out[:, part] = wide @ _widened(b[:, part])
    return out


def _parts(count: int) -> Iterator[slice]:
    return (slice(first, first + _MOST) for first in range(0, count, _MOST))


def _widened(matrix: torch.Tensor) -> torch.Tensor:
    """Return it in fp32, row by row or column by column as it lies in memory."""
    return matrix.float() if matrix.stride(1) == 1 else matrix.T.float().T
