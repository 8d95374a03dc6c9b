"""Packs weights in the order in which ``products.h`` reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.decoding.native.abi import PANEL
from models.native.llama import LANES

if TYPE_CHECKING:
    from collections.abc import Sequence


def pad_outputs(weight: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad ``[outputs, ...]`` with rows of zeros to a multiple of ``multiple`` outputs."""
    missing = -weight.shape[0] % multiple
    if not missing:
        return weight
    return torch.cat([weight, weight.new_zeros(missing, *weight.shape[1:])])


def pad_inputs(weight: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pad ``[outputs, inputs]`` with columns of zeros to a multiple of ``multiple`` inputs."""
    return torch.nn.functional.pad(weight, (0, -weight.shape[1] % multiple))


def stack_parts(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack layers with the same input along the outputs, each padded to whole panels."""
    return torch.cat([pad_outputs(part, PANEL) for part in parts])


def interleave(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Interleave outputs: 16 of ``gate``, then the same 16 of ``up``, and so on."""
    inputs = gate.shape[1:]
    pair = [pad_outputs(part, LANES).view(-1, LANES, *inputs) for part in (gate, up)]
    return torch.stack(pair, 1).flatten(0, 2)


def panels(weight: torch.Tensor, vectors: int) -> torch.Tensor:
    """Pack ``[outputs, inputs]`` as ``[panels, inputs / width, vectors, 16, width]``.

    ``width`` is 2 for bfloat16, which is multiplied in pairs, and 1 for fp32.
    """
    width = 2 if weight.dtype == torch.bfloat16 else 1
    padded = pad_outputs(weight, vectors * LANES)
    split = padded.view(-1, vectors, LANES, weight.shape[1] // width, width)
    return split.permute(0, 3, 1, 2, 4).contiguous()


def rank_panels(up: torch.Tensor) -> torch.Tensor:
    """Pack a LoRA ``b`` factor, ``[outputs, rank]``, as fp32 ``[panels, 2, rank, 16]``."""
    split = up.float().view(-1, PANEL // LANES, LANES, up.shape[1])
    return split.transpose(2, 3).contiguous()
