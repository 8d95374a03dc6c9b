"""What tests do to updates, and what they look at afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


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
