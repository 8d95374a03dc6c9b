"""RolloutStore of the record."""

from __future__ import annotations

from typing import Any
from feedback.events import Rollout, RolloutEvent


class RolloutStore:
    async def get(self) -> Rollout:
        raise NotImplementedError

    async def activate(
        self,
        version: str,
        *,
        who: str,
        why: str,
        expected_live: str | None = None,
        figures: dict[str, Any] | None = None,
        now: float,
    ) -> Rollout:
        raise NotImplementedError

    async def rollback(self, *, to: str | None = None, who: str, why: str, now: float) -> Rollout:
        raise NotImplementedError

    async def events(self, limit: int = 100) -> list[RolloutEvent]:
        raise NotImplementedError
