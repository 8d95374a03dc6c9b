"""Learning: paused or not, when a worker last checked, and operators' requests for an update."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from feedback.store import keys
from feedback.store.codec import HashCodec, flat
from feedback.types import UpdateRequest

if TYPE_CHECKING:
    from feedback.store.client import Client

_CODEC = HashCodec(UpdateRequest)

_REQUEST_TTL = timedelta(days=7)


class Learning:
    """What operators and workers exchange through one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def pause(self, who: str) -> None:
        """Let no new run start; one that is open ends."""
        await self._set("pause", who)

    async def resume(self, who: str) -> None:
        """Let runs start again."""
        await self._set("resume", who)

    async def paused(self) -> bool:
        """Whether learning is paused."""
        return bool(await self._client.command("EXISTS", keys.LEARNING))

    async def request_update(self, who: str, *, now: float) -> UpdateRequest:
        """Write a request for an update now; a worker answers it within seconds."""
        request = UpdateRequest(secrets.token_hex(8), who, now, "waiting")
        await self._client.durable_script(
            "request_add",
            [keys.request(request.id), keys.REQUESTS],
            [
                request.id,
                now,
                round(_REQUEST_TTL.total_seconds() * 1000),
                *flat(_CODEC.encode(request)),
            ],
        )
        return request

    async def waiting_requests(self) -> list[UpdateRequest]:
        """Return the requests that nobody has answered, oldest first."""
        ids = await self._client.command("ZRANGE", keys.REQUESTS, 0, -1)
        found = await self._client.hashes([keys.request(each) for each in ids])
        return [_CODEC.decode(each) for each in found if each]

    async def answer(self, request_id: str, *, run: int | None, answer: str) -> None:
        """Answer a request: the run it led to, or why there is none; the first answer stays."""
        await self._client.script(
            "request_answer",
            [keys.request(request_id), keys.REQUESTS],
            [request_id, answer, "" if run is None else run],
        )

    async def get_request(self, request_id: str) -> UpdateRequest | None:
        """Return a request; None if there is none of that id, or it is older than a week."""
        found = await self._client.hash(keys.request(request_id))
        return _CODEC.decode(found) if found else None

    async def looked(self, now: float) -> None:
        """Remember that a worker checked for work."""
        await self._client.command("SET", keys.LOOKED, now)

    async def last_look(self) -> float | None:
        """Return when a worker last checked for work, in seconds since the epoch."""
        found = await self._client.command("GET", keys.LOOKED)
        return None if found is None else float(found)

    async def _set(self, action: str, who: str) -> None:
        await self._client.durable_script("learning_set", [keys.LEARNING], [action, who])
