"""Versions of the record."""

from __future__ import annotations

import builtins
from typing import Any
from feedback.events import VersionRecord
from models.versions import VersionState


class Versions:
    async def get(self, version: str) -> VersionRecord:
        raise NotImplementedError

    async def list(self, limit: int = 100) -> builtins.list[VersionRecord]:
        raise NotImplementedError

    async def add(
        self,
        version: str,
        *,
        parent: str,
        manifest: dict[str, Any],
        state: VersionState,
        now: float,
    ) -> None:
        raise NotImplementedError
