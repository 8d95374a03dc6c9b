"""Linear layers that read the same input, with their low-rank pairs, as one product.

With ``W`` the stacked base weights, ``A`` the stacked first halves and ``B`` the second halves on
the diagonal of a block matrix, ``y = W x + s · B (A x)`` is one product of ``[W | s · B]`` with
``[x | A x]``. Its backward product gives the gradients of ``x`` and of ``A x`` at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.policy.gradients import Gradients
    from models.policy.kernels import Kernels

_ALIGNED = 32
"""Rows of this many numbers are read fastest."""


@dataclass(frozen=True, slots=True)
class LowRankPair:
    """One layer's low-rank pair: fp32 masters.

    Attributes:
        a: ``[r, in]``.
        b: ``[out, r]``.
    """

    a: torch.nn.Parameter
    b: torch.nn.Parameter


class LowRankLinear:
    """Layers with a common input, side by side; takes their weights over.

    Args:
        layers: Their weights become views of this object's memory.
        pairs: Their low-rank pairs, of one rank.
        kernels: What multiplies.
        scale: What the low-rank products are multiplied by.
    """

    def __init__(
        self,
        layers: Sequence[torch.nn.Linear],
        pairs: Sequence[LowRankPair],
        kernels: Kernels,
        *,
        scale: float,
    ) -> None:
        weight = layers[0].weight
        self._pairs, self._kernels, self._scale = pairs, kernels, scale
        self.inputs = weight.shape[1]
        self._rank = pairs[0].a.shape[0]
        self._low = slice(self.inputs, self.inputs + self._rank * len(layers))
        ends = torch.tensor([layer.weight.shape[0] for layer in layers]).cumsum(0).tolist()
        self._outputs = [
            slice(end - layer.weight.shape[0], end) for end, layer in zip(ends, layers, strict=True)
        ]
        width = self._low.stop + -self._low.stop % _ALIGNED
        self._read = slice(0, width if kernels.padded else self._low.stop)
        self._weight = weight.new_zeros(ends[-1], width)
        self._down = weight.new_zeros(self._rank * len(layers), self.inputs)
        for rows, layer in zip(self._outputs, layers, strict=True):
            self._weight[rows, : self.inputs] = layer.weight
            layer.weight.data = self._weight[rows, : self.inputs]
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self._bias = torch.cat(biases) if len(biases) == len(layers) else None

    def refresh(self) -> None:
        """Take the masters' numbers into the products."""
        for number, (rows, pair) in enumerate(zip(self._outputs, self._pairs, strict=True)):
            self._down[self._ranks(number)] = pair.a.detach()
            self._weight[rows, self._columns(number)] = pair.b.detach() * self._scale

    def room(self, tokens: int, lowered: torch.Tensor | None = None) -> torch.Tensor:
        """Return room for an input, ``[N, in + …]``; the first ``in`` columns are to be filled.

        Args:
            tokens: ``N``.
            lowered: ``A x``, where it is known.
        """
        room = self._weight.new_empty(tokens, self._weight.shape[1])
        room[:, self._low.stop :] = 0
        if lowered is not None:
            self.lowered(room).copy_(lowered)
        return room

    def forward(self, x: torch.Tensor, *, adapted: bool) -> torch.Tensor:
        """Return ``[N, out]`` for an input in its ``room``, where ``A x`` is written."""
        if adapted:
            self._kernels.multiply(x[:, : self.inputs], self._down.T, out=self.lowered(x))
            out = self._kernels.multiply(x[:, self._read], self._weight[:, self._read].T)
        else:
            out = self._kernels.multiply(x[:, : self.inputs], self._weight[:, : self.inputs].T)
        return out if self._bias is None else out.add_(self._bias)

    def lowered(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``A x`` of an input in its ``room``, a view, ``[N, r …]``."""
        return x[:, self._low]

    def backward(self, x: torch.Tensor, dy: torch.Tensor, gradients: Gradients) -> torch.Tensor:
        """Add to the masters' gradients, and return the input's, ``[N, in]``.

        Args:
            x: The input, as ``forward`` leaves it.
            dy: Gradient of the output, ``[N, out]``.
            gradients: Takes those of the masters.
        """
        pulled = self.pull(dy)
        self.learn(x, dy, pulled, gradients)
        return pulled[:, : self.inputs]

    def pull(self, dy: torch.Tensor) -> torch.Tensor:
        """Return the gradients of ``x`` and of ``A x``, side by side as in its ``room``."""
        both = self._weight.new_empty(len(dy), self._weight.shape[1])
        self._kernels.multiply(dy, self._weight[:, self._read], out=both[:, self._read])
        self._kernels.add_product(both[:, self._low], self._down, both[:, : self.inputs])
        return both

    def learn(
        self, x: torch.Tensor, dy: torch.Tensor, pulled: torch.Tensor, gradients: Gradients
    ) -> None:
        """Add to the masters' gradients; ``pulled`` is what ``pull`` gave, the rest as before.

        Pairs that are not learned need no gradient.
        """
        if not any(pair.a.requires_grad for pair in self._pairs):
            return
        dlow = pulled[:, self._low]
        da = self._kernels.multiply(dlow.T.contiguous(), x[:, : self.inputs])
        db = self._kernels.multiply(self.lowered(x).T.contiguous(), dy)
        for number, (rows, pair) in enumerate(zip(self._outputs, self._pairs, strict=True)):
            if pair.a.requires_grad:
                ranks = self._ranks(number)
                gradients.add(pair.a, da[ranks])
                gradients.add(pair.b, db[ranks, rows].T, scale=self._scale)

    def _ranks(self, number: int) -> slice:
        return slice(number * self._rank, (number + 1) * self._rank)

    def _columns(self, number: int) -> slice:
        first = self.inputs + number * self._rank
        return slice(first, first + self._rank)
