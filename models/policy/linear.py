"""Linear layers with LoRA that share an input, computed as one matrix product.

``W`` is the stacked base weights and ``A`` the stacked LoRA A factors. ``B`` is block diagonal and
holds the LoRA B factors. Then ``y = W x + s · B (A x)`` is one product of ``[W | s · B]`` with
``[x | A x]``. One backward product gives the gradients of ``x`` and of ``A x``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.policy.gradients import Gradients
    from models.policy.kernels import Kernels

_ALIGNMENT = 32
"""Products are fastest with rows of a multiple of this many numbers."""


@dataclass(frozen=True, slots=True)
class LoraParameters:
    """The LoRA factors of one linear layer, as fp32 master weights.

    Attributes:
        a: ``[r, in]``.
        b: ``[out, r]``.
    """

    a: torch.nn.Parameter
    b: torch.nn.Parameter


class LowRankLinear:
    """Linear layers with a common input and LoRA factors, stacked along the outputs.

    Args:
        layers: The layers, whose weights become views of the stacked weights.
        loras: The LoRA factors of each layer, all of one rank.
        kernels: The functions that multiply.
        scale: The factor of the low-rank products, alpha / rank.
    """

    def __init__(
        self,
        layers: Sequence[torch.nn.Linear],
        loras: Sequence[LoraParameters],
        kernels: Kernels,
        *,
        scale: float,
    ) -> None:
        weight = layers[0].weight
        self._loras, self._kernels, self._scale = loras, kernels, scale
        self.inputs = weight.shape[1]
        self._rank = loras[0].a.shape[0]
        self._low_columns = slice(self.inputs, self.inputs + self._rank * len(layers))
        ends = torch.tensor([layer.weight.shape[0] for layer in layers]).cumsum(0).tolist()
        self._outputs = [
            slice(end - layer.weight.shape[0], end) for end, layer in zip(ends, layers, strict=True)
        ]
        width = self._low_columns.stop + -self._low_columns.stop % _ALIGNMENT
        self._used = slice(0, width if kernels.padded else self._low_columns.stop)
        self._weight = weight.new_zeros(ends[-1], width)
        self._down = weight.new_zeros(self._rank * len(layers), self.inputs)
        for rows, layer in zip(self._outputs, layers, strict=True):
            self._weight[rows, : self.inputs] = layer.weight
            layer.weight.data = self._weight[rows, : self.inputs]
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self._bias = torch.cat(biases) if len(biases) == len(layers) else None

    def refresh(self) -> None:
        """Copy the master weights to the stacked weights."""
        for number, (rows, lora) in enumerate(zip(self._outputs, self._loras, strict=True)):
            self._down[self._ranks(number)] = lora.a.detach()
            self._weight[rows, self._columns(number)] = lora.b.detach() * self._scale

    def input_buffer(self, tokens: int, low_rank_part: torch.Tensor | None = None) -> torch.Tensor:
        """Return memory for an input, ``[N, in + …]``; the caller fills the first ``in`` columns.

        Args:
            tokens: ``N``.
            low_rank_part: ``A x``, if it is already known.
        """
        buffer = self._weight.new_empty(tokens, self._weight.shape[1])
        buffer[:, self._low_columns.stop :] = 0
        if low_rank_part is not None:
            self.low_rank_part(buffer).copy_(low_rank_part)
        return buffer

    def forward(self, x: torch.Tensor, *, adapted: bool) -> torch.Tensor:
        """Return the outputs ``[N, out]`` of an input in its buffer; writes ``A x`` there too."""
        if adapted:
            self._kernels.multiply(x[:, : self.inputs], self._down.T, out=self.low_rank_part(x))
            out = self._kernels.multiply(x[:, self._used], self._weight[:, self._used].T)
        else:
            out = self._kernels.multiply(x[:, : self.inputs], self._weight[:, : self.inputs].T)
        return out if self._bias is None else out.add_(self._bias)

    def low_rank_part(self, x: torch.Tensor) -> torch.Tensor:
        """Return the view of ``A x`` in an input's buffer, ``[N, r · layers]``."""
        return x[:, self._low_columns]

    def backward(self, x: torch.Tensor, dy: torch.Tensor, gradients: Gradients) -> torch.Tensor:
        """Add the gradients of the master weights, and return the input's, ``[N, in]``.

        Args:
            x: The input's buffer, as ``forward`` leaves it.
            dy: The gradient of the output, ``[N, out]``.
            gradients: The sink of the master weights' gradients.
        """
        dinputs = self.input_gradients(dy)
        self.accumulate_gradients(x, dy, dinputs, gradients)
        return dinputs[:, : self.inputs]

    def input_gradients(self, dy: torch.Tensor) -> torch.Tensor:
        """Return the gradients of ``x`` and of ``A x``, with the columns of ``input_buffer``."""
        both = self._weight.new_empty(len(dy), self._weight.shape[1])
        self._kernels.multiply(dy, self._weight[:, self._used], out=both[:, self._used])
        self._kernels.add_product(both[:, self._low_columns], self._down, both[:, : self.inputs])
        return both

    def accumulate_gradients(
        self, x: torch.Tensor, dy: torch.Tensor, dinputs: torch.Tensor, gradients: Gradients
    ) -> None:
        """Add the gradients of the master weights.

        Args:
            x: The input's buffer, as ``forward`` leaves it.
            dy: The gradient of the output, ``[N, out]``.
            dinputs: The result of ``input_gradients``.
            gradients: The sink of the master weights' gradients.
        """
        dlow = dinputs[:, self._low_columns]
        da = self._kernels.multiply(dlow.T.contiguous(), x[:, : self.inputs])
        db = self._kernels.multiply(self.low_rank_part(x).T.contiguous(), dy)
        for number, (rows, lora) in enumerate(zip(self._outputs, self._loras, strict=True)):
            ranks = self._ranks(number)
            gradients.add(lora.a, da[ranks])
            gradients.add(lora.b, db[ranks, rows].T, scale=self._scale)

    def _ranks(self, number: int) -> slice:
        return slice(number * self._rank, (number + 1) * self._rank)

    def _columns(self, number: int) -> slice:
        first = self.inputs + number * self._rank
        return slice(first, first + self._rank)
