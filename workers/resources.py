"""What an update works with: the record, the adapters, and a learner that is loaded late."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from feedback.store import Store
    from models.adapters import AdapterStore, Manifest
    from models.gate import GateFigures
    from models.types import Progress, Sample
    from workers.settings import WorkerSettings


class UpdateLearner(Protocol):
    """What the steps need of ``models.learning.learner.Learner``; it computes, and blocks."""

    def learn(
        self,
        samples: Sequence[Sample],
        *,
        parent: str,
        seed: int,
        progress: Callable[[Progress], None],
        earlier: Sequence[Sample] = (),
        setbacks: int = 0,
    ) -> Any:
        """Return the learned adapter and its report."""
        ...

    def publish(
        self,
        learned: Any,
        *,
        sequence: int,
        parent: str,
        batch_hash: str,
        fence: int,
        now: float,
    ) -> Manifest:
        """Save the adapter where every replica finds it."""
        ...

    def probe(self, version: str, progress: Callable[[Progress], None]) -> GateFigures:
        """Measure a published version."""
        ...


@dataclass(slots=True)
class UpdateResources:
    """What an update works with.

    Attributes:
        make_learner: Loads the base model; called once, off the event loop, when first needed.
        seconds: The longest that an attempt at a run may take; None sets no limit.
    """

    store: Store
    settings: WorkerSettings
    adapters: AdapterStore
    make_learner: Callable[[], UpdateLearner]
    clock: Callable[[], float] = time.time
    seconds: float | None = None
    _learner: UpdateLearner | None = field(default=None, init=False)

    async def learner(self) -> UpdateLearner:
        """Return the learner, loading it on the first call."""
        if self._learner is None:
            self._learner = await asyncio.to_thread(self.make_learner)
        return self._learner
