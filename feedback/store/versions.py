"""Policy versions: the registry of every adapter there is, and of the base."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from feedback.errors import RolloutConflictError, UnknownVersionError
from feedback.events import VersionRecord
from feedback.store import keys
from models.types import BASE
from models.versions import sequence_of

if TYPE_CHECKING:
    import builtins

    from feedback.store.client import Client
    from models.versions import VersionState


class Versions:
    """The version registry of one Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, version: str) -> VersionRecord:
        """Return a version; there is always ``base``.

        Raises:
            UnknownVersionError: There is none of that id.
        """
        if version == BASE:
            return await self._base()
        found = await self._client.hash(keys.version(version))
        if "state" not in found:
            raise unknown_version(version)
        return _decode(version, found)

    async def list(self, limit: int = 100) -> builtins.list[VersionRecord]:
        """Return the newest versions, newest first, and ``base`` as the last."""
        ids = await self._client.command("ZREVRANGE", keys.VERSIONS, 0, limit - 1)
        found = await self._client.hashes([keys.version(each) for each in ids])
        learned = [_decode(name, each) for name, each in zip(ids, found, strict=True)]
        return [*learned, await self._base()]

    async def add(
        self,
        version: str,
        *,
        parent: str,
        manifest: dict[str, Any],
        state: VersionState,
        now: float,
    ) -> None:
        """Register a version that was not learned here.

        Raises:
            RolloutConflictError: There is one of that id already.
            AdapterError: ``version`` is not a version id.
        """
        added = await self._client.promise(
            "version_add",
            [keys.version(version), keys.VERSIONS, keys.SEQUENCE],
            [version, parent, json.dumps(manifest), state, now, sequence_of(version)],
        )
        if not added:
            raise RolloutConflictError(
                f"Version {version} is registered already; there is nothing to import."
            )

    async def _base(self) -> VersionRecord:
        """Return the base: it has counters of its own, and the rollout knows its state."""
        counters, rollout = await self._client.hashes([keys.version(BASE), keys.ROLLOUT])
        live = rollout.get("live", BASE) == BASE
        state = {"state": "live" if live else "retired", "parent": "", "created_at": "0"}
        return _decode(BASE, {**counters, **state})


def unknown_version(version: str) -> UnknownVersionError:
    """Return the error for a version that is not registered."""
    return UnknownVersionError(
        f"There is no version {version!r}. `thumbloop versions list` shows those there are."
    )


def _decode(version: str, found: dict[str, str]) -> VersionRecord:
    return VersionRecord(
        version=version,
        state=cast("VersionState", found["state"]),
        parent=found["parent"],
        created_at=float(found["created_at"]),
        run=int(found["run"]) if "run" in found else None,
        manifest=json.loads(found.get("manifest", "{}")),
        figures=json.loads(found.get("figures", "{}")),
        reason=found.get("reason") or None,
        completions=int(found.get("completions", 0)),
        up=int(found.get("up", 0)),
        down=int(found.get("down", 0)),
    )
