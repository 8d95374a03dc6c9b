"""Packs a micro-batch: no padding, and prefixes that several replies share only once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from models.policy.batch import MicroBatch


@dataclass(frozen=True, slots=True)
class Packed:
    """The ``N`` distinct (prefix, token) pairs of ``B`` rows of ``S`` cells.

    The hidden state of a token depends only on the tokens before it, so rows with a common prefix
    share its tokens exactly. A shared token belongs to the first row that has it. Layers compute
    tokens. torch's attention computes cells; the compiled attention computes each row's own tokens.

    Attributes:
        ids: The token ids, ``[N]``.
        positions: The position of each token in its row, ``[N]``.
        shape: ``(B, S)``.
        tokens: The index of the token in each cell, ``[B · S]``; 0 in padding, on the right.
        cells: The first cell of each token, ``[N]``; its attention output is used.
        duplicates: The other cells of shared tokens, and the indices of these tokens, two ``[D]``.
        lengths: The tokens of each row, shared ones included, ``[B]`` int32.
        own_start: The position of each row's first own token, ``[B]`` int32; a row's own tokens
            are contiguous.
        kept: The tokens whose states predict a reply's tokens, row by row, ``[kept]``.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    shape: tuple[int, int]
    tokens: torch.Tensor
    cells: torch.Tensor
    duplicates: tuple[torch.Tensor, torch.Tensor]
    lengths: torch.Tensor
    own_start: torch.Tensor
    kept: torch.Tensor

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Copy tokens to their cells, ``[N, …]`` to ``[B · S, …]``; padding gets a finite value."""
        return values if self._is_full else values[self.tokens]

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Read each token from its first cell, ``[B · S, …]`` to ``[N, …]``."""
        return values if self._is_full else values[self.cells]

    def spread_gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of ``gather``'s input, ``[B · S, …]``; 0 in unused cells."""
        if self._is_full:
            return gradient
        out = gradient.new_zeros(len(self.tokens), *gradient.shape[1:])
        return out.index_copy_(0, self.cells, gradient)

    def gather_gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient of ``spread``'s input, ``[N, …]``, summed over a token's cells."""
        if self._is_full:
            return gradient
        out = gradient[self.cells]
        cells, tokens = self.duplicates
        return out.index_add_(0, tokens, gradient[cells]) if len(cells) else out

    @property
    def _is_full(self) -> bool:
        """Whether each cell has its own token: rows of one length that share no prefix."""
        return len(self.ids) == len(self.tokens)


def pack(batch: MicroBatch) -> Packed:
    """Pack a padded micro-batch by its distinct prefixes."""
    rows, width = batch.ids.shape
    lengths = batch.attention.sum(1).tolist()
    seen: dict[tuple[int, int], int] = {}
    tokens = [0] * (rows * width)
    ids: list[int] = []
    positions: list[int] = []
    cells: list[int] = []
    duplicates: list[tuple[int, int]] = []
    own_start = list(lengths)
    for row, (row_ids, length) in enumerate(zip(batch.ids.tolist(), lengths, strict=True)):
        token = -1
        for position, token_id in enumerate(row_ids[:length]):
            cell, key = row * width + position, (token, token_id)
            if key in seen:
                token = seen[key]
                duplicates.append((cell, token))
            else:
                own_start[row] = min(own_start[row], position)
                token = seen[key] = len(ids)
                ids.append(token_id)
                positions.append(position)
                cells.append(cell)
            tokens[cell] = token
    in_cells = torch.tensor(tokens)
    kept_rows, columns = batch.mask.nonzero(as_tuple=True)
    kept_cells = kept_rows * width + batch.reply_positions[kept_rows, columns]
    more = torch.tensor(duplicates, dtype=torch.long).view(-1, 2)
    return Packed(
        ids=torch.tensor(ids),
        positions=torch.tensor(positions),
        shape=(rows, width),
        tokens=in_cells,
        cells=torch.tensor(cells),
        duplicates=(more[:, 0], more[:, 1]),
        lengths=torch.tensor(lengths, dtype=torch.int32),
        own_start=torch.tensor(own_start, dtype=torch.int32),
        kept=in_cells[kept_cells],
    )
