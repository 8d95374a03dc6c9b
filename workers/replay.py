"""Which votes of earlier updates an update learns from once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.samples import make_batch

if TYPE_CHECKING:
    from feedback.events import FrozenVote
    from feedback.store import Store
    from models.types import Sample

_RUNS = 20
"""Earlier runs to look through; older votes were of a policy long gone."""


async def replay_samples(store: Store, *, limit: int) -> tuple[Sample, ...]:
    """Return the newest votes that earlier runs learned, at most ``limit``.

    A vote that was changed or withdrawn since has left the window; so have those of a version that
    was rejected or rolled back, which wait to be learned again.
    """
    runs = await store.runs.list(_RUNS) if limit else []
    votes = [vote for run in runs if run.state == "approved" for vote in reversed(run.votes)]
    newest: list[FrozenVote] = []
    for vote, stands in zip(votes, await store.votes.still_learned(votes), strict=True):
        if stands and len(newest) < limit:
            newest.append(vote)
    completions = await store.completions.get_many([vote.completion_id for vote in newest])
    return make_batch(newest, completions).samples
