"""A learner as a process of its own: the real ``run_update`` on a real Redis, until it may rest.

It computes nothing but publishes real folders, so that it lives for a second only; with
``--torch`` it is the real learner on the base model that the environment names, and with ``--once``
it looks for work once. It prints a line for each run that it worked on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from feedback.errors import StoreUnavailableError
from feedback.store import open_store
from models.adapters import AdapterStore
from models.errors import LearningError
from models.failpoints import check_failpoints
from models.types import Progress
from tests.support.workers.fake_learner import FakeLearner, Learned
from workers.resources import UpdateResources
from workers.settings import WorkerSettings
from workers.update import run_update

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.types import Sample
    from workers.resources import UpdateLearner


class CarefulLearner(FakeLearner):
    """Refuses what is not finite, as the real learner does; takes FAULTS_LEARN_SECONDS.

    With a FAULTS_SALT it learns something else from the same batch, as other hardware may.
    """

    def learn(self, samples: Sequence[Sample], **options: Any) -> Learned:
        for sample in samples:
            if not all(map(math.isfinite, sample.behaviour_logprobs)):
                raise LearningError(f"{sample.completion_id}: a log-prob is not finite.")
        learned = super().learn(samples, **options)
        salt = os.environ.get("FAULTS_SALT", "").encode()
        return Learned(learned.content + salt, learned.report)


def take_time(progress: Callable[[Progress], None]) -> None:
    until = time.monotonic() + float(os.environ.get("FAULTS_LEARN_SECONDS", "0"))
    while True:
        progress(Progress("learn", 1, 2))
        if time.monotonic() >= until:
            return
        time.sleep(0.02)


def make_learner(settings: WorkerSettings) -> UpdateLearner:
    if "--torch" in sys.argv:
        from models.learning.learner import Learner as TorchLearner

        return TorchLearner(settings)
    return CarefulLearner(AdapterStore(settings.adapters_dir), during=take_time)


async def work() -> None:
    settings = WorkerSettings()
    async with open_store(settings) as store:
        resources = UpdateResources(
            store, settings, AdapterStore(settings.adapters_dir), lambda: make_learner(settings)
        )
        while (run := await run_update(resources)) is not None:
            line = {"run": run.number, "state": run.state, "version": run.version}
            print(json.dumps({**line, "pid": os.getpid()}), flush=True)
            if "--once" in sys.argv:
                break


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(message)s")
    check_failpoints()
    try:
        asyncio.run(work())
    except StoreUnavailableError as error:
        sys.exit(str(error))
