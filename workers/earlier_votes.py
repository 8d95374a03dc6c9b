"""Which votes of earlier updates the reward model of an update's practice is fitted to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback.batching import learned_votes, standing_votes
from workers.samples import make_batch

if TYPE_CHECKING:
    from feedback.store import Store
    from models.recipe import Recipe
    from models.types import Sample

RUNS = 20
"""Newest runs whose votes are looked at."""


async def earlier_votes(store: Store, recipe: Recipe, *, batch: int) -> tuple[Sample, ...]:
    """Return what an update of ``batch`` new votes needs of earlier ones, oldest first.

    A vote that was changed or withdrawn since is left out; so are those of a version that was
    rejected or rolled back, which wait to be learned again.
    """
    room = max(0, recipe.reward_model_votes - batch) if recipe.practice_rounds else 0
    votes = learned_votes(await store.runs.list(RUNS) if room else [])
    standing = standing_votes(votes, await store.votes.still_learned(votes), most=room)
    completions = await store.completions.get_many([vote.completion_id for vote in standing])
    return make_batch(standing, completions).samples[::-1]
