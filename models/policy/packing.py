"""A micro-batch without padding: each distinct prefix once, whichever replies begin with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from models.policy.batch import MicroBatch


@dataclass(frozen=True, slots=True)
class Packed:
    """The ``N`` distinct (prefix, token) pairs of ``B`` rows that are ``S`` cells wide.

    A token's hidden state depends on nothing but the tokens before it, so rows that begin alike
    share their tokens, exactly: they are those of the first row that has them. Layers work on
    tokens; torch's attention works on cells, the compiled one on each row's own tokens.

    Attributes:
        ids: Token ids, ``[N]``.
        positions: Where each stands in its row, ``[N]``.
        shape: ``(B, S)``.
        tokens: Which token is in each cell, ``[B · S]``; 0 in padding, which is on the right.
        cells: The one cell of each token whose attention counts, ``[N]``.
        again: The other cells of shared tokens, and which tokens those are, two ``[D]``.
        lengths: Tokens of each row, shared ones included, ``[B]`` int32.
        owned: The position from which on a row's tokens are its own, ``[B]`` int32; these follow
            one another.
        kept: The tokens whose states predict a reply's tokens, row by row, ``[kept]``.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    shape: tuple[int, int]
    tokens: torch.Tensor
    cells: torch.Tensor
    again: tuple[torch.Tensor, torch.Tensor]
    lengths: torch.Tensor
    owned: torch.Tensor
    kept: torch.Tensor

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Copy tokens to their cells, ``[N, …]`` to ``[B · S, …]``; padding gets what is finite."""
        return values if self._is_full else values[self.tokens]

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Read each token from the cell that counts: ``[B · S, …]`` to ``[N, …]``."""
        return values if self._is_full else values[self.cells]

    def spread_gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient with respect to what ``gather`` was given: 0 in all other cells."""
        if self._is_full:
            return gradient
        out = gradient.new_zeros(len(self.tokens), *gradient.shape[1:])
        return out.index_copy_(0, self.cells, gradient)

    def gather_gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient with respect to what ``spread`` was given: cells of a token added."""
        if self._is_full:
            return gradient
        out = gradient[self.cells]
        cells, tokens = self.again
        return out.index_add_(0, tokens, gradient[cells]) if len(cells) else out

    @property
    def _is_full(self) -> bool:
        """Whether tokens and cells are the same: rows of one length that share nothing."""
        return len(self.ids) == len(self.tokens)


def pack(batch: MicroBatch) -> Packed:
    """Find the distinct prefixes of a padded micro-batch."""
    rows, width = batch.ids.shape
    lengths = batch.attention.sum(1).tolist()
    known: dict[tuple[int, int], int] = {}
    tokens = [0] * (rows * width)
    ids: list[int] = []
    positions: list[int] = []
    cells: list[int] = []
    again: list[tuple[int, int]] = []
    owned = list(lengths)
    for row, (row_ids, length) in enumerate(zip(batch.ids.tolist(), lengths, strict=True)):
        token = -1
        for position, token_id in enumerate(row_ids[:length]):
            cell, key = row * width + position, (token, token_id)
            if key in known:
                token = known[key]
                again.append((cell, token))
            else:
                owned[row] = min(owned[row], position)
                token = known[key] = len(ids)
                ids.append(token_id)
                positions.append(position)
                cells.append(cell)
            tokens[cell] = token
    in_cells = torch.tensor(tokens)
    kept_rows, columns = batch.mask.nonzero(as_tuple=True)
    kept_cells = kept_rows * width + batch.reply_positions[kept_rows, columns]
    more = torch.tensor(again, dtype=torch.long).view(-1, 2)
    return Packed(
        ids=torch.tensor(ids),
        positions=torch.tensor(positions),
        shape=(rows, width),
        tokens=in_cells,
        cells=torch.tensor(cells),
        again=(more[:, 0], more[:, 1]),
        lengths=torch.tensor(lengths, dtype=torch.int32),
        owned=torch.tensor(owned, dtype=torch.int32),
        kept=in_cells[kept_cells],
    )
