"""What tests do to updates, and what they look at afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback.store import keys
from feedback.types import Person

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from feedback.store import Store

ANN = Person("k1", "ann")


class Killed(BaseException):
    """Ends an update as SIGKILL would: nothing is caught, nothing tidied up."""


def killed_at(monkeypatch: pytest.MonkeyPatch, target: object, name: str) -> None:
    async def die(*_args: object, **_kwargs: object) -> None:
        raise Killed

    monkeypatch.setattr(target, name, die)


def raising(error: Exception) -> Callable[[object], None]:
    """Return what a fake learner does during an update that fails."""

    def during(_progress: object) -> None:
        raise error

    return during


async def let_the_lease_run_out(store: Store) -> None:
    await store._client.command("DEL", keys.LEASE)


async def states(store: Store, ids: list[str]) -> list[str]:
    return [(await store.votes.get(each, ANN)).state for each in ids]
