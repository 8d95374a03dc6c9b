"""All records of one Redis behind one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from feedback.store.api_keys import ApiKeys
from feedback.store.client import Client
from feedback.store.completions import Completions
from feedback.store.external import ExternalIds, TokenSecret
from feedback.store.judging import Judging
from feedback.store.learning import Learning
from feedback.store.log import FeedbackLog
from feedback.store.notifications import RolloutNotifications
from feedback.store.replicas import Replicas
from feedback.store.restore import Restore
from feedback.store.retention import Retention
from feedback.store.rollout import RolloutStore
from feedback.store.runs import Runs
from feedback.store.tallies import Tallies
from feedback.store.traces import Traces
from feedback.store.users import Users
from feedback.store.versions import Versions
from feedback.store.votes import Votes

if TYPE_CHECKING:
    from datetime import timedelta

    from feedback.settings import FeedbackSettings


class Store:
    """The record. Every operation raises ``StoreUnavailableError`` when Redis is away or refuses.

    A store belongs to the event loop in which it was first used.
    """

    def __init__(self, client: Client, settings: FeedbackSettings) -> None:
        self._client = client
        self.completions = Completions(client, settings.completion_ttl, settings.vote_ttl)
        self.external = ExternalIds(client, settings.completion_ttl)
        self.token_secret = TokenSecret(client)
        self.votes = Votes(client, settings.vote_ttl)
        self.runs = Runs(client, settings.lease, settings.retry_delay)
        self.versions = Versions(client)
        self.traces = Traces(client)
        self.rollout = RolloutStore(client, self.votes)
        self.replicas = Replicas(client)
        self.keys = ApiKeys(client)
        self.learning = Learning(client)
        self.tallies = Tallies(client)
        self.judging = Judging(client)
        self.retention = Retention(client, self.votes, settings)
        self.log = FeedbackLog(client)
        self.restore = Restore(client, settings)
        self.users = Users(client, self.keys, self.retention)

    @classmethod
    def connect(cls, url: str, settings: FeedbackSettings) -> Store:
        """Return a store of the Redis at ``url``; the first operation connects."""
        return cls(Client(url, durable=settings.durability == "disk"), settings)

    def notifications(self, patience: timedelta) -> RolloutNotifications:
        """Return notifications of the rollout, on a connection that the caller closes."""
        return RolloutNotifications(self._client.url, patience)

    async def close(self) -> None:
        """Let operations under way end, then close the connections."""
        await self._client.close()

    async def ping(self) -> None:
        """Ask whether Redis answers.

        Raises:
            StoreUnavailableError: It does not.
        """
        await self._client.command("PING")

    async def check_durability(self) -> None:
        """Ask whether Redis can keep a vote that is accepted, as far as the settings demand it.

        Raises:
            StoreUnavailableError: It cannot, or is away; the message says what to set.
        """
        await self._client.check_durability()

    async def server_settings(self) -> dict[str, str]:
        """Return what Redis says of how it keeps its data; nothing where it may not be asked.

        Returns:
            ``appendonly``, ``appendfsync`` and ``maxmemory-policy``.

        Raises:
            StoreUnavailableError: Redis is away.
        """
        names = ("appendonly", "appendfsync", "maxmemory-policy")
        try:
            found: dict[str, str] = await self._client.command("CONFIG GET", "*")
        except ResponseError:
            return {}
        return {name: found[name] for name in names if name in found}
