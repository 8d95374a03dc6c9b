"""Matrix products by torch, in the number format that the processor multiplies fastest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.native.processor import processor

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROWS_AT_ONCE = 2048
"""The rows of weights converted at a time, which bounds the copy; 512 and 8,192 are no faster."""


def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``a @ b`` in the operands' number format, summed in fp32.

    Where bfloat16 products are slow (``Processor.multiplies_bfloat16``), the operands are converted
    to fp32 first. The result is rounded once in either case.

    Args:
        a: ``[n, k]``.
        b: ``[k, m]``; may be a transposed view (``W.T``).
        out: The result's memory, ``[n, m]``; allocated if None.
    """
    if a.dtype != torch.bfloat16 or a.device.type != "cpu" or processor().multiplies_bfloat16:
        return torch.mm(a, b, out=out)
    out = a.new_empty(len(a), b.shape[1]) if out is None else out
    if len(b) > _ROWS_AT_ONCE:
        total = torch.zeros(out.shape)
        for part in _parts(len(b)):
            total.addmm_(a[:, part].float(), _to_fp32(b[part]))
        return out.copy_(total)
    wide = a.float()
    for part in _parts(b.shape[1]):
        out[:, part] = wide @ _to_fp32(b[:, part])
    return out


def _parts(count: int) -> Iterator[slice]:
    return (slice(first, first + _ROWS_AT_ONCE) for first in range(0, count, _ROWS_AT_ONCE))


def _to_fp32(matrix: torch.Tensor) -> torch.Tensor:
    """Return the matrix in fp32 with its memory order, by rows or by columns."""
    return matrix.float() if matrix.stride(1) == 1 else matrix.T.float().T
