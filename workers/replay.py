"""Which votes of earlier updates an update learns from once more, or learns to expect others by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from feedback.batching import replay_window, replayable
from workers.samples import make_batch

if TYPE_CHECKING:
    from feedback.store import Store
    from models.types import Sample
    from workers.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class Earlier:
    """Votes of earlier updates, newest first.

    Attributes:
        replay: Those that are learned from once more.
        remembered: Those that the reward model of rollouts is fitted to.
    """

    replay: tuple[Sample, ...]
    remembered: tuple[Sample, ...]

    @property
    def ids(self) -> list[str]:
        """The completions of all of them."""
        return [sample.completion_id for sample in max(self.replay, self.remembered, key=len)]


async def earlier_votes(store: Store, settings: WorkerSettings, *, batch: int) -> Earlier:
    """Return what an update of ``batch`` new votes needs of earlier ones.

    A vote that was changed or withdrawn since has left the window; so have those of a version that
    was rejected or rolled back, which wait to be learned again.
    """
    remembered = max(0, settings.reward_model_votes - batch) if settings.rollouts else 0
    limit = max(settings.replay_votes, remembered)
    votes = replayable(await store.runs.list(settings.replay_runs) if limit else [])
    window = replay_window(votes, await store.votes.still_learned(votes), max_votes=limit)
    completions = await store.completions.get_many([vote.completion_id for vote in window])
    samples = make_batch(window, completions).samples
    return Earlier(samples[: settings.replay_votes], samples[:remembered])
