"""Corrections that people wrote beside their votes: an update makes them likelier."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from models.base.prompt import encode_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.base.loading import Base
    from models.recipe import Recipe
    from models.types import Sample


@dataclass(frozen=True, slots=True)
class Corrections:
    """The corrections of a batch.

    Attributes:
        samples: Each correction as a reply to its vote's prompt.
        of_row: For a row of the batch, the index of its correction in ``samples``.
        cut: How many corrections were too long and were cut.
    """

    samples: Sequence[Sample] = ()
    of_row: Mapping[int, int] = field(default_factory=dict)
    cut: int = 0

    def among(self, rows: Sequence[int]) -> list[int]:
        """Return the indices of the corrections that belong to these rows of the batch."""
        return [self.of_row[row] for row in rows if row in self.of_row]

    def figures(self) -> dict[str, int]:
        """Return the number of corrections, and of those that were cut, for the report."""
        return {"corrections": len(self.samples), "corrections_cut": self.cut}


def has_corrections(samples: Sequence[Sample], recipe: Recipe) -> bool:
    """Whether any vote has a correction that the recipe learns from."""
    return bool(recipe.corrections) and any(sample.correction.strip() for sample in samples)


def find_corrections(samples: Sequence[Sample], base: Base, recipe: Recipe) -> Corrections:
    """Return the corrections of a batch's votes; none if the recipe learns from none.

    A correction is learned at temperature 1 and with the token that ends a reply. Of a correction
    that is too long, only the beginning is learned, without that token.
    """
    found: list[Sample] = []
    of_row: dict[int, int] = {}
    most, cut, end = recipe.correction_tokens, 0, base.reply_end()
    for row, sample in enumerate(samples):
        if not has_corrections([sample], recipe):
            continue
        ids = (*encode_text(base.tokenizer, sample.correction.strip()), *end)
        cut += len(ids) > most
        of_row[row] = len(found)
        found.append(
            replace(
                sample,
                response_ids=ids[:most],
                behaviour_logprobs=(),
                temperature=1.0,
                ended=len(ids) <= most,
            )
        )
    return Corrections(found, of_row, cut)
