"""The judge's last verdict, for operators to read."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from feedback.store import keys
from feedback.types import Judgement

if TYPE_CHECKING:
    from feedback.store.client import Client


class Judging:
    """The last verdict in one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def last(self) -> Judgement | None:
        """Return the last verdict; None before the first."""
        found = await self._client.command("GET", keys.JUDGING)
        if found is None:
            return None
        said = json.loads(found)
        lists = {name: tuple(said[name]) for name in ("test", "control", "reasons")}
        return Judgement(**{**said, **lists})

    async def write(self, judgement: Judgement) -> None:
        """Remember a verdict in place of the last."""
        await self._client.command("SET", keys.JUDGING, json.dumps(asdict(judgement)))
