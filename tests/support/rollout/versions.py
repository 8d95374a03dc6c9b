"""Versions for tests of the watcher, and a way to make one live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback.types import Audit
from models.versions import Activate

if TYPE_CHECKING:
    from feedback.store import Store

V1, V2, V3 = (f"v00000{number}-{number:012x}" for number in (1, 2, 3))
V9 = "v000009-000000000009"


async def activate(store: Store, version: str) -> None:
    await store.rollout.do(Activate(version), Audit("test", "test", 1.0))
