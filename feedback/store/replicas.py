"""Replicas of the record."""

from __future__ import annotations

import builtins
from datetime import timedelta
from feedback.events import Replica


class Replicas:
    async def report(self, replica: Replica, ttl: timedelta) -> None:
        raise NotImplementedError

    async def list(self) -> builtins.list[Replica]:
        raise NotImplementedError
