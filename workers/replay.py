"""Which votes of earlier updates an update learns from once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback.batching import replay_window, replayable
from workers.samples import make_batch

if TYPE_CHECKING:
    from feedback.store import Store
    from models.types import Sample


async def replay_samples(store: Store, *, limit: int, runs: int) -> tuple[Sample, ...]:
    """Return the newest votes that the last ``runs`` runs learned, at most ``limit``.

    A vote that was changed or withdrawn since has left the window; so have those of a version that
    was rejected or rolled back, which wait to be learned again.
    """
    votes = replayable(await store.runs.list(runs) if limit else [])
    window = replay_window(votes, await store.votes.still_learned(votes), max_votes=limit)
    completions = await store.completions.get_many([vote.completion_id for vote in window])
    return make_batch(window, completions).samples
