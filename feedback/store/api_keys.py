"""ApiKeys of the record."""

from __future__ import annotations

import builtins
from feedback.events import ApiKey, Scope


class ApiKeys:
    async def create(
        self, name: str, scopes: frozenset[Scope], *, now: float
    ) -> tuple[ApiKey, str]:
        raise NotImplementedError

    async def verify(self, key: str) -> ApiKey | None:
        raise NotImplementedError

    async def list(self) -> builtins.list[ApiKey]:
        raise NotImplementedError

    async def revoke(self, public_id: str) -> bool:
        raise NotImplementedError

    async def any(self) -> bool:
        raise NotImplementedError
