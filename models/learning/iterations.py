"""The PPO iterations of an update: a large batch is learned part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.types import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.types import Sample


@dataclass(frozen=True, slots=True)
class Iteration:
    """What one iteration learns from.

    Attributes:
        votes: Its share of the batch.
        replayed: Its share of the votes of earlier updates.
    """

    votes: Sequence[Sample]
    replayed: Sequence[Sample]


def divide(batch: Sequence[Sample], replay: Sequence[Sample], *, votes: int) -> Sequence[Iteration]:
    """Deal a batch out to iterations of at least ``votes`` votes each, and replay alike.

    As many as there can be, and all of nearly one size; a single one where the batch is smaller,
    or ``votes`` is 0. Votes that came one after another, as of a user in haste, go to different
    iterations.
    """
    count = max(1, len(batch) // votes) if votes else 1
    return [Iteration(batch[number::count], replay[number::count]) for number in range(count)]


def among(
    progress: Callable[[Progress], None], number: int, count: int
) -> Callable[[Progress], None]:
    """Return what tells of the progress of iteration ``number`` as a part of all ``count``."""

    def tell(at: Progress) -> None:
        progress(Progress(at.phase, number * at.total + at.done, count * at.total))

    return tell
