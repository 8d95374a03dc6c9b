"""Learning of the record."""

from __future__ import annotations
from feedback.events import UpdateRequest


class Learning:
    async def pause(self, who: str) -> None:
        raise NotImplementedError

    async def resume(self, who: str) -> None:
        raise NotImplementedError

    async def paused(self) -> bool:
        raise NotImplementedError

    async def request_update(self, who: str, *, now: float) -> UpdateRequest:
        raise NotImplementedError

    async def waiting_requests(self) -> list[UpdateRequest]:
        raise NotImplementedError

    async def answer(self, request_id: str, *, run: int | None, answer: str) -> None:
        raise NotImplementedError

    async def get_request(self, request_id: str) -> UpdateRequest | None:
        raise NotImplementedError

    async def looked(self, now: float) -> None:
        raise NotImplementedError

    async def last_look(self) -> float | None:
        raise NotImplementedError
