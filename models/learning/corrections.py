"""What people would rather have read: replies that an update makes likelier."""

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
        of_row: Which of them belongs to a row of the batch.
        cut: How many were longer than is learned.
    """

    samples: Sequence[Sample] = ()
    of_row: Mapping[int, int] = field(default_factory=dict)
    cut: int = 0

    def among(self, rows: Sequence[int]) -> list[int]:
        """Return which samples belong to these rows of the batch."""
        return [self.of_row[row] for row in rows if row in self.of_row]

    def figures(self) -> dict[str, int]:
        """Return how many there are, and how many were cut, for the report."""
        return {"corrections": len(self.samples), "corrections_cut": self.cut}


def find_corrections(samples: Sequence[Sample], base: Base, recipe: Recipe) -> Corrections:
    """Return the corrections that the votes of a batch have; none where the recipe learns none.

    They are learned at temperature 1, and end as a reply does. One that is too long ends nowhere:
    its beginning is learned.
    """
    found: list[Sample] = []
    of_row: dict[int, int] = {}
    most, cut = recipe.correction_tokens, 0
    for row, sample in enumerate(samples):
        if not (recipe.corrections and sample.correction.strip()):
            continue
        ids = (*encode_text(base.tokenizer, sample.correction.strip()), base.tokenizer.eos_token_id)
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
