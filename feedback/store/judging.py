"""The judge's last verdict, for operators to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback.store import keys
from feedback.store.codec import JsonCodec
from feedback.types import Judgement

if TYPE_CHECKING:
    from feedback.store.client import Client

_CODEC = JsonCodec(Judgement)


class Judging:
    """The last verdict in one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def last(self) -> Judgement | None:
        """Return the last verdict; None before the first."""
        found = await self._client.command("GET", keys.JUDGING)
        return None if found is None else _CODEC.decode(found)

    async def write(self, judgement: Judgement) -> None:
        """Write a verdict in place of the last."""
        await self._client.command("SET", keys.JUDGING, _CODEC.encode(judgement))
