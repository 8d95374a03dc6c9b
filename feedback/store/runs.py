"""Runs of the record."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any, Literal
from feedback.events import FrozenVote, Run, RunState


class Runs:
    async def claim(
        self, votes: Sequence[FrozenVote], *, parent: str, min_votes: int, now: float
    ) -> Run | None:
        raise NotImplementedError

    async def take_over(self, *, now: float) -> Run | None:
        raise NotImplementedError

    async def renew(self, run: Run) -> None:
        raise NotImplementedError

    async def commit(
        self,
        run: Run,
        *,
        version: str,
        manifest: dict[str, Any],
        report: dict[str, Any],
        now: float,
    ) -> None:
        raise NotImplementedError

    async def finish(
        self,
        run: Run,
        state: Literal["approved", "rejected"],
        *,
        figures: dict[str, Any],
        reason: str | None,
        now: float,
    ) -> None:
        raise NotImplementedError

    async def fail(self, run: Run, *, reason: str, max_attempts: int, now: float) -> RunState:
        raise NotImplementedError

    async def open(self) -> Run | None:
        raise NotImplementedError

    async def get(self, number: int) -> Run:
        raise NotImplementedError

    async def list(self, limit: int = 50) -> builtins.list[Run]:
        raise NotImplementedError
