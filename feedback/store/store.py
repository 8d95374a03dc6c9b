"""All records of one Redis behind one object."""

from __future__ import annotations

from feedback.settings import FeedbackSettings
from feedback.store.api_keys import ApiKeys
from feedback.store.completions import Completions
from feedback.store.learning import Learning
from feedback.store.replicas import Replicas
from feedback.store.rollout import RolloutStore
from feedback.store.runs import Runs
from feedback.store.versions import Versions
from feedback.store.votes import Votes


class Store:
    completions: Completions
    votes: Votes
    runs: Runs
    versions: Versions
    rollout: RolloutStore
    replicas: Replicas
    keys: ApiKeys
    learning: Learning

    @classmethod
    def connect(cls, url: str, settings: FeedbackSettings) -> Store:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def ping(self) -> None:
        raise NotImplementedError
